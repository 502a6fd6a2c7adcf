// Takes in what the sliders look up while they move; it comes after the page's first picture and draws nothing.
export default function ({ data }) {
  if (!data) return;
  const grid = JSON.parse(new TextDecoder().decode(data));
  STUDIO.grids.clear();
  STUDIO.grids.set(grid.id, grid);
}
