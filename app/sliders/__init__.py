"""The sliders, and pictures that move with them in the browser, before the server is told.

A component that follows them is one call and one function of JavaScript::

    _MARKER = live_component("cist_marker", html="<output></output>", scripts=[Path("marker.js").read_text()])
    _MARKER(key="marker", data={...})

    export default function ({ data, parentElement }) {
      const root = parentElement.querySelector("output");
      return followRules(root, (pair) => { root.textContent = pair.rho.label; });
    }

What `pair` holds stands at the top of `rules.js`. It comes from a grid of positions (`cist_core.compare.slider_grid`)
that each source has computed once, after the page's first picture.
"""
