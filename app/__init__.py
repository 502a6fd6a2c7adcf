"""The Streamlit shell around `cist_core`: loading, shared state, widgets. Pages import from here, never the reverse."""
