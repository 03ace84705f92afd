// What a page has to keep of WCAG 2.2 AA, as far as a program can see it; returns what breaks it.
//
// A list of sentences, each with the element it is about. Only what can be seen is looked at.
() => {
  const told = [];
  const name = (one) => `${one.tagName.toLowerCase()}${one.id ? `#${one.id}` : ""}${one.classList.length ? `.${[...one.classList].join(".")}` : ""}`;
  const tell = (one, problem) => told.push(`${name(one)}: ${problem}`);
  const isSeen = (one) => one.checkVisibility({ opacityProperty: false, visibilityProperty: true }) && !one.closest("[aria-hidden=true]");
  const all = (selector) => [...document.querySelectorAll(selector)].filter(isSeen);
  const textOf = (id) => document.getElementById(id)?.textContent.trim() ?? "";

  // ---- names -------------------------------------------------------------------------------
  const nameOf = (one) =>
    (one.getAttribute("aria-labelledby") ?? "").split(/\s+/).filter(Boolean).map(textOf).join(" ").trim() ||
    one.getAttribute("aria-label")?.trim() ||
    [...(one.labels ?? [])].map((label) => label.textContent.trim()).join(" ").trim() ||
    (one.matches("input, select, textarea") ? "" : one.textContent.trim()) ||
    one.querySelector("img[alt], svg title")?.textContent?.trim() ||
    one.getAttribute("title")?.trim() || "";
  for (const one of all("a[href], button, input:not([type=hidden]), select, textarea, summary, [role=tab], [role=treeitem], [role=region], [role=img], [role=tree], [role=log], nav, aside, dialog")) {
    if (!nameOf(one)) tell(one, "has no name");
  }
  for (const one of all("img:not([alt])")) tell(one, "has no alternative text");
  for (const one of all("svg:not([role])")) tell(one, "is a picture that is neither named nor hidden");
  for (const one of all("nav")) {
    const same = all("nav").filter((other) => nameOf(other) === nameOf(one));
    if (same.length > 1) tell(one, "is named as another navigation is");
  }
  for (const one of all("[aria-labelledby], [aria-describedby], [aria-controls], [aria-owns]")) {
    for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "aria-owns"]) {
      for (const id of (one.getAttribute(attribute) ?? "").split(/\s+/).filter(Boolean)) {
        if (!document.getElementById(id)) tell(one, `${attribute} names ${id}, which is not there`);
      }
    }
  }

  // ---- structure ---------------------------------------------------------------------------
  if (!document.documentElement.lang) told.push("html: says no language");
  if (!document.title.trim()) told.push("head: has no title");
  if (all("main").length !== 1) told.push("body: has not one main");
  if (all("h1").length !== 1) told.push(`body: has ${all("h1").length} h1`);
  let level = 0;
  for (const one of all("h1, h2, h3, h4, h5, h6")) {
    const next = Number(one.tagName[1]);
    if (level && next > level + 1) tell(one, `follows a heading of level ${level}`);
    level = next;
  }
  const ids = new Map();
  for (const one of document.querySelectorAll("[id]")) ids.set(one.id, (ids.get(one.id) ?? 0) + 1);
  for (const [id, count] of ids) if (count > 1) told.push(`#${id}: stands ${count} times`);
  for (const one of all("[tabindex]")) if (one.tabIndex > 0) tell(one, "is out of the order of the page");
  for (const one of all("li")) {
    const parent = one.parentElement;
    if (!one.role && !parent.matches("ul, ol, menu, [role=list]")) tell(one, "is in no list");
  }
  for (const one of all("table")) if (!one.querySelector("th")) tell(one, "has no headings");

  // ---- reach ---------------------------------------------------------------------------------
  if (document.documentElement.scrollWidth > innerWidth) told.push("html: is wider than the window");
  for (const one of all("body *")) {
    const style = getComputedStyle(one);
    const isRoll = (way, most, here) => /auto|scroll/.test(way) && most > here + 1;
    const rolls = isRoll(style.overflowX, one.scrollWidth, one.clientWidth) || isRoll(style.overflowY, one.scrollHeight, one.clientHeight);
    if (rolls && one.tabIndex < 0 && !one.querySelector("a[href], button, input, textarea, select, [tabindex]")) tell(one, "rolls, and no key reaches it");
  }
  for (const one of all("button, input:not([type=hidden]), select, textarea, [role=tab], summary")) {
    const box = one.getBoundingClientRect();
    if (one.closest(".visually-hidden") || !box.width) continue;
    const isInLine = getComputedStyle(one).display === "inline";
    if (!isInLine && (box.width < 24 || box.height < 24) && !["checkbox", "radio"].includes(one.type)) {
      tell(one, `is ${Math.round(box.width)}x${Math.round(box.height)}, too small for a finger`);
    }
  }

  // ---- contrast ------------------------------------------------------------------------------
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  canvas.canvas.width = canvas.canvas.height = 1;
  const colors = new Map();
  const rgba = (color) => {
    if (!colors.has(color)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
      colors.set(color, [red, green, blue, alpha / 255]);
    }
    return colors.get(color);
  };
  const over = ([r, g, b, a], [r2, g2, b2]) => [r * a + r2 * (1 - a), g * a + g2 * (1 - a), b * a + b2 * (1 - a), 1];
  const ground = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage.includes("url(")) return null;
      const color = rgba(style.backgroundColor);
      if (color[3]) layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((below, color) => over(color, below), [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const looked = new Set();
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || looked.has(one) || !isSeen(one)) continue;
    looked.add(one);
    if (one.closest("script, style, noscript, [aria-disabled=true], :disabled, .tone-gone, .visually-hidden, .skip")) continue;
    const style = getComputedStyle(one);
    const below = ground(one);
    if (!below) continue;
    let opacity = 1;
    for (let at = one; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    if (opacity < 0.05) continue;
    const ink = rgba(one.closest("svg") ? style.fill : style.color);
    const shown = over([ink[0], ink[1], ink[2], ink[3] * opacity], below);
    const [bright, dim] = [light(shown), light(below)].sort((a, b) => b - a);
    const ratio = (bright + 0.05) / (dim + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const isOnShape = one.closest("svg");
    if (!isOnShape && ratio < (isLarge ? 3 : 4.5)) tell(one, `its words stand out ${ratio.toFixed(2)} to 1`);
  }
  return told;
}
