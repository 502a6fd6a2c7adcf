// Four samples and their soft labels under both rules, softened here from their logits while a slider moves.

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".samples");
  root.rules = undefined;
  // The same logits can have other names, and images that were missing may have come.
  const made = JSON.stringify([data.id, data.samples.map(({ title, names, picture }) => [title, names, picture])]);
  if (root.made !== made) {
    root.made = made;
    root.replaceChildren(...data.samples.map((sample) => card(sample)));
  }
  return followRules(root, (pair) => {
    data.samples.forEach((sample, index) => {
      const fixed = soften(sample.logits, pair.tau.at);
      const held = soften(sample.logits, Math.max(sample.maximum / pair.rho.at, pair.values.floor));
      const bars = root.children[index].bars;
      sample.top.forEach((place, row) => {
        [fixed[place], held[place]].forEach((share, side) => {
          const [bar, words] = bars[row][side];
          bar.style.transform = `scaleX(${share.toFixed(4)})`;
          const text = percent(share);
          if (words.textContent !== text) words.textContent = text;
        });
      });
    });
  });
}

function card(sample) {
  const made = (name, kind, words = "") => Object.assign(document.createElement(name), { className: kind, textContent: words });
  const whole = made("figure", "card"), facts = made("figcaption", "facts"), list = made("div", "list");
  if (sample.picture) facts.append(Object.assign(made("img", "picture"), { src: sample.picture, alt: "" }));
  const words = made("div", "about");
  words.append(made("strong", "", sample.title), made("span", "", sample.place));
  facts.append(words);
  whole.bars = sample.top.map((_, row) => {
    const line = made("div", "line"), bars = made("div", "bars");
    line.append(made("span", "name", sample.names[row]), bars);
    const sides = ["fixed", "cist"].map((side) => {
      const track = made("div", `track ${side}`), bar = made("i", ""), share = made("span", "");
      track.append(bar, share);
      bars.append(track);
      return [bar, share];
    });
    list.append(line);
    return sides;
  });
  whole.append(facts, list);
  return whole;
}
