// Moves a mark of a chart that Vega has drawn along a curve while a slider moves; Vega puts it right when the server has.
export default function ({ data, parentElement }) {
  const root = parentElement.querySelector("span");
  return followRules(root, (pair) => {
    const chart = document.querySelector(`.st-key-${data.chart} svg.marks`);
    const mark = (name) => chart?.querySelector(`.${name}_marks > *`);
    const [fixed, dot, words] = [data.fixed.name, data.dot, data.words].map(mark);
    const ground = chart?.querySelector(".root > g > .background")?.getBBox();
    if (!fixed || !dot || !words || !ground) return;
    // Both axes are linear and begin at 0, so a mark that stays tells their scale.
    const [right, down] = placeOf(fixed), [dotX, dotY] = placeOf(dot), [wordsX, wordsY] = placeOf(words);
    const x = Math.min((right / data.fixed.x) * pair.rho.at, ground.width);
    const y = ground.height - ((ground.height - down) / data.fixed.y) * pair.rho.mean;
    dot.setAttribute("transform", `translate(${x},${y})`);
    words.setAttribute("transform", `translate(${x + wordsX - dotX},${y + wordsY - dotY})`);
    words.textContent = `now ${Number(pair.rho.at.toPrecision(4))}`;
  });
}

const placeOf = (mark) => mark.getAttribute("transform").match(/-?[\d.]+(e-?\d+)?/g).slice(0, 2).map(Number);
