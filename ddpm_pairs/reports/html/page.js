"use strict";

function startBrowser(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const chosen = (name, otherwise) => Number(part(name)?.value ?? otherwise);
  const view = root.querySelector(".view");

  function showSide(side, [name, note, image]) {
    const img = part(side);
    if (img.src !== data.uris[image]) img.src = data.uris[image];
    img.alt = `${name}, ${side} of the divider`;
    part(`${side}-tag`).textContent = name;
    return note ? `${name} (${note})` : name;
  }

  function show() {
    const item = data.items[chosen("item", 0)];
    const stages = item.rows[chosen("row", root.dataset.row)];
    const stage = chosen("stage", root.dataset.stage);
    const left = showSide("left", stages[chosen("before", 0)]);
    const right = showSide("right", stages[stage]);
    view.style.aspectRatio = `${item.size[1]} / ${item.size[0]}`;
    part("caption").textContent = `${item.name}: ${left} on the left, ${right} on the right`;
    part("stage")?.setAttribute("aria-valuetext", right);
    if (part("stage-name")) part("stage-name").textContent = right;
  }

  function divide() {
    const at = part("divider").value;
    view.style.setProperty("--at", `${at}%`);
    part("divider").setAttribute("aria-valuetext", `${at}% of the left image`);
  }

  root.addEventListener("input", (event) => (event.target === part("divider") ? divide() : show()));
  for (const button of root.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      const list = part("item");
      list.selectedIndex = (list.selectedIndex + Number(button.dataset.step) + list.length) % list.length;
      show();
    });
  }
  root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  show();
  divide();
}

function startCopying(button) {
  const code = button.parentElement.querySelector("code");
  const status = button.parentElement.querySelector("[role=status]");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      status.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      status.textContent = "selected: press Ctrl+C";
    }
  });
}

document.querySelectorAll("[data-browser]").forEach(startBrowser);
document.querySelectorAll("[data-copy]").forEach(startCopying);
