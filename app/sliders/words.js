// Fills every [data-says] with what the pair says under that name, e.g. "finding" or "tau.words.1".
export default function ({ parentElement }) {
  const root = parentElement.querySelector(".words");
  const button = root.querySelector("[data-plays]");
  if (button) button.onclick = () => window.dispatchEvent(new CustomEvent("cist-play"));
  return followRules(root, (pair) => {
    for (const place of root.querySelectorAll("[data-says]")) {
      const words = String(place.dataset.says.split(".").reduce((known, name) => known[name], pair));
      if (place.textContent !== words) place.textContent = words;
    }
    // A screen reader hears where it came to rest, not every step of the way.
    root.querySelector("[aria-live]")?.setAttribute("aria-live", pair.moving ? "off" : "polite");
    if (button) button.setAttribute("aria-pressed", pair.playing);
  });
}
