"use strict";
// One tooltip for everything that carries data-tip. Text only, never markup.
const tip = document.getElementById("tip");
const told = (node) => (node instanceof Element ? node.closest("[data-tip]") : null);

function show(target, x, y) {
  const title = document.createElement("b");
  title.textContent = target.dataset.title;
  tip.replaceChildren(title, document.createTextNode("\n" + target.dataset.tip));
  tip.hidden = false;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const left = Math.min(Math.max(8, x + 14), innerWidth - width - 8);
  const above = y - height - 14;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = (above > 8 ? above : Math.min(y + 18, innerHeight - height - 8)) + "px";
}

const hide = () => { tip.hidden = true; };

for (const kind of ["pointermove", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    const target = told(event.target);
    if (target) show(target, event.clientX, event.clientY); else hide();
  });
}
document.addEventListener("focusin", (event) => {
  const target = told(event.target);
  if (!target || !target.matches(":focus-visible")) return;
  const box = target.getBoundingClientRect();
  show(target, box.right, box.top);
});
document.addEventListener("focusout", hide);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
addEventListener("scroll", hide, { passive: true });

// On paper everything is open.
addEventListener("beforeprint", () => {
  for (const section of document.querySelectorAll("details")) section.open = true;
});
