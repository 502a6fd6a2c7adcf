"""What forms and views decide and say, without Streamlit."""
