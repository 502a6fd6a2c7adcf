// Takes in the passage that the controls of tokens.js are about; it comes once, and draws nothing: the passage's name, the
// end of a line, and what cist_core.language.passage.describe gives.
export default function ({ data }) {
  if (!data) return;
  const content = new TextDecoder().decode(data), end = content.indexOf("\n"), id = content.slice(0, end);
  if (STUDIO.passage?.id === id) return;
  STUDIO.passage = { ...JSON.parse(content.slice(end + 1)), id };
  window.dispatchEvent(new CustomEvent("cist-passage"));
}
