// Moves the bars of soft labels that Vega has drawn while a slider of the lesson is dragged; Vega puts them right when the
// server has been told. The lesson's sliders are Streamlit's own, which tell nobody but the server, so they are watched.
const AFTER = 700;  // milliseconds in which a chart that the server draws meanwhile is put where the slider is

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector("span");
  root.data = data;
  root.stopWatching?.();
  const sliders = Object.values(data.sliders).map((key) => document.querySelector(`.st-key-${key} [data-testid=stSlider]`));
  let until = 0, frame;
  const follow = () => {
    frame = undefined;
    moveBars(root.data);
    if (performance.now() < until) frame = requestAnimationFrame(follow);
  };
  const watch = new MutationObserver(() => {
    until = performance.now() + AFTER;
    frame ??= requestAnimationFrame(follow);
  });
  for (const slider of sliders) if (slider) watch.observe(slider, { subtree: true, attributes: true, characterData: true });
  root.stopWatching = () => { watch.disconnect(); cancelAnimationFrame(frame); };
  return root.stopWatching;
}

function moveBars({ sliders, pictures }) {
  const stands = (rule) => Number(document.querySelector(`.st-key-${sliders[rule]} input[type=range]`)?.value);
  for (const { chart, logits, shown, rules } of pictures) {
    const drawn = document.querySelector(`.st-key-${chart}-place svg.marks`);
    const bars = drawn?.querySelectorAll(".layer_0_marks > path"), numbers = drawn?.querySelectorAll(".layer_1_marks > text");
    const values = rules.map(stands);
    if (!drawn || values.some((value) => !(value > 0))) continue;
    const shares = rules.flatMap((rule, place) => {
      const temperature = rule === "tau" ? values[place] : centredMaximum(logits) / values[place];
      const soft = soften(logits, temperature), named = shown.map((index) => soft[index]);
      return shown.length < logits.length ? [...named, 1 - named.reduce((sum, share) => sum + share, 0)] : named;
    });
    // Vega has not drawn this picture yet, but the one of the step before.
    if (bars.length !== shares.length || numbers.length !== shares.length) continue;
    const unit = drawn.querySelector(".root > g > .background").getBBox().width / FULL;
    shares.forEach((share, index) => {
      const width = Math.max(share, 0) * unit, height = bars[index].getBBox().height;
      bars[index].setAttribute("d", `M0,0h${width}v${height}h${-width}Z`);
      const [, down] = numbers[index].getAttribute("transform").match(/,\s*(-?[\d.]+)/);
      numbers[index].setAttribute("transform", `translate(${width + GAP},${down})`);
      numbers[index].textContent = percent(Math.max(share, 0));
    });
  }
}

const FULL = 1.22, GAP = 6;  // of the axis of the pictures, and from a bar to its number

const centredMaximum = (logits) => Math.max(...logits) - logits.reduce((sum, logit) => sum + logit, 0) / logits.length;
