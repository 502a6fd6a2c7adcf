// The contrast of every visible word with what stands behind it (WCAG 2.2), below what level AA asks for.
() => {
  const parse = text => {
    const numbers = (text.match(/[\d.]+/g) || []).map(Number);
    return numbers.length < 3 ? null : { rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
  };
  const over = (front, back) => front.rgb.map((value, at) => value * front.alpha + back[at] * (1 - front.alpha));
  const luminance = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const ancestors = element => {
    const chain = [];
    for (let each = element; each; each = each.parentElement) chain.push(each);
    return chain;
  };
  const background = chain => chain.reduceRight((back, element) => {
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour ? over(colour, back) : back;
  }, [255, 255, 255]);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const words = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!words || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest("style, script, :disabled, [aria-disabled=true], [data-stale=true]")) continue;
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (box.width < 2 || box.height < 2) continue;
    // The number of a slider stands above its thumb, not on it; an icon is told apart at 3 to 1.
    const thumb = element.closest("[data-testid=stSliderThumbValue]");
    const chain = ancestors(element), back = background(thumb ? ancestors(thumb.closest("[data-testid=stSlider]")) : chain);
    const icon = element.matches("[data-testid=stIconMaterial]");
    const drawn = element instanceof SVGElement;
    const colour = parse(drawn ? style.fill : style.color);
    if (!colour) continue;
    colour.alpha *= chain.reduce((all, each) => all * Number(getComputedStyle(each).opacity), 1);
    if (colour.alpha === 0) continue;
    const size = parseFloat(style.fontSize), large = icon || size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const measured = contrast(over(colour, back), back);
    if (measured < (large ? 3 : 4.5)) found.push(`${measured.toFixed(2)} ${drawn ? "chart" : "page"}: ${words.slice(0, 50)}`);
  }
  return [...new Set(found)];
}
