// What can be measured of a page's looks: text that is hard to read, content that is wider than the window,
// keyboard focus that cannot be seen. Contrast is WCAG 2.2's ratio.
(() => {
  const channels = (color) => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { rgb: [r, g, b], alpha: a / 255 };
  };
  const over = (top, below) => below.map((c, i) => channels(top).rgb[i] * channels(top).alpha + c * (1 - channels(top).alpha));
  const paper = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
    const base = matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
    return layers.reduce((below, top) => over(top, below), base);
  };
  const luminance = (rgb) => rgb
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const name = (e) => e.tagName.toLowerCase() + (e.id && `#${e.id}`) + (e.className && `.${e.className}`);

  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest(':disabled, script, noscript')) continue;
    const style = getComputedStyle(e);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const ground = paper(e);
    const got = ratio(over(style.color, ground), ground);
    if (got < needed) faint.push(`${name(e)} "${walk.currentNode.data.trim().slice(0, 20)}": ${got.toFixed(2)}`);
  }
  for (const e of document.querySelectorAll('input, .bar')) {
    if (!e.checkVisibility()) continue;
    const ground = paper(e.parentElement);
    const colour = e.matches('input') ? getComputedStyle(e).borderTopColor : getComputedStyle(e).backgroundColor;
    if (ratio(over(colour, ground), ground) < 3) faint.push(`${name(e)} against what is around it`);
  }

  const small = [...document.querySelectorAll('button, input, a[href]')]
    .filter((e) => e.checkVisibility() && !e.matches('.skip'))
    .filter((e) => e.getBoundingClientRect().height < 24 || e.getBoundingClientRect().width < 24)
    .map(name);

  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  return {
    faint,
    small,
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth
      ? [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5).map(name)
      : [],
    doubles: ids.filter((id, i) => ids.indexOf(id) !== i),
    lang: document.documentElement.lang,
    headings: [...document.querySelectorAll('h1')].length,
  };
})()
