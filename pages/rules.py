"""Rules: now the tab "Compare entropies" of Choose ρ; links to this address lead there."""

from __future__ import annotations

import streamlit as st

SECTION = "Decide"
ORDER = 20
ICON = ":material/leaderboard:"
HIDDEN = True

OWN = ("rules_resamples", "rules_seed")  # the others of the address belong to widgets beside the page, which have them

own = {name: value for name, value in st.query_params.to_dict().items() if name in OWN}
st.switch_page("../pages/rho.py", query_params={**own, "rho_tab": "Compare entropies"})
