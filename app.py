"""The door: `streamlit run app.py`.

The script that draws pages is takd/presentation/frame.py. Wrapping it in st.App keeps a cold deep link from being
caught by Streamlit's own discovery of pages/, and gives a place to warm up.
"""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from takd.presentation.visitor_cookie import VisitorCookie


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Load what the first page needs, then freeze it: Streamlit collects garbage after every run of a page, and what
    is frozen is not looked at again."""
    from takd.presentation.warm_up import warm_up

    warm_up()
    gc.collect()
    gc.freeze()
    yield


app = st.App("takd/presentation/frame.py", lifespan=lifespan, middleware=[Middleware(VisitorCookie)])
