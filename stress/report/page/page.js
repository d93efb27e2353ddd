
"use strict";
(() => {
  const all = (place, what) => [...place.querySelectorAll(what)];
  document.body.classList.add("js");

  // --- values under the pointer -------------------------------------------------------------------
  function shownBox(picture, data) { // the axes of the drawing that is shown, in pixels of the picture
    const name = picture.querySelector(".narrow").clientWidth ? "narrow" : "wide";
    const svg = picture.querySelector(`.${name} svg`).getBoundingClientRect();
    const own = picture.getBoundingClientRect();
    const [left, top, right, bottom, width] = data.boxes[name];
    const scale = svg.width / width;
    const x = svg.left - own.left, y = svg.top - own.top;
    return { left: x + left * scale, right: x + right * scale, top: y + top * scale,
      bottom: y + bottom * scale };
  }

  function clock(seconds) {
    const whole = Math.floor(seconds), two = (number) => String(number).padStart(2, "0");
    return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  }

  function readable(picture) {
    const figure = picture.closest("figure");
    const data = JSON.parse(figure.querySelector("script").textContent);
    const told = all(figure, ".legend output"), when = figure.querySelector(".when");
    const columns = data.series[0].length;
    const cursor = document.createElement("div");
    cursor.className = "cursor";
    cursor.hidden = true;
    picture.append(cursor);
    picture.tabIndex = 0;
    picture.setAttribute("role", "group");
    picture.setAttribute("aria-label", "Values of the picture: arrow keys, Home and End");
    let at = -1;

    function show(column) {
      at = Math.max(0, Math.min(columns - 1, column));
      const box = shownBox(picture, data);
      cursor.style.left = `${box.left + ((at + 0.5) / columns) * (box.right - box.left)}px`;
      cursor.style.top = `${box.top}px`;
      cursor.style.height = `${box.bottom - box.top}px`;
      cursor.hidden = false;
      const step = (data.end - data.start) / columns;
      when.textContent = `${clock(data.start + at * step)} to ${clock(data.start + (at + 1) * step)}`
        + " since the start";
      told.forEach((output, index) => { output.textContent = data.series[index][at] || "no value"; });
    }
    function clear() {
      cursor.hidden = true;
      when.textContent = "";
      for (const output of told) output.textContent = "";
    }
    picture.addEventListener("pointermove", (event) => {
      const box = shownBox(picture, data), x = event.clientX - picture.getBoundingClientRect().left;
      show(Math.floor(((x - box.left) / (box.right - box.left)) * columns));
    });
    picture.addEventListener("pointerleave", clear);
    picture.addEventListener("blur", clear);
    const filled = data.series.flatMap((texts) => texts.map((text, at) => (text ? at : -1)))
      .filter((at) => at >= 0);
    const first = filled.reduce((a, b) => Math.min(a, b), columns - 1);
    const last = filled.reduce((a, b) => Math.max(a, b), 0);
    const keys = { ArrowLeft: () => at - 1, ArrowRight: () => at + 1, PageUp: () => at - 20,
      PageDown: () => at + 20, Home: () => first, End: () => last };
    picture.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || !Object.hasOwn(keys, event.key)) return;
      event.preventDefault();
      show(keys[event.key]());
    });
  }
  all(document, ".picture.reads").forEach(readable);

  // --- lines on and off -----------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const key = event.target.closest(".legend button");
    if (key) {
      const off = key.getAttribute("aria-pressed") === "true";
      key.setAttribute("aria-pressed", String(!off));
      const lines = all(key.closest("figure"), `.picture [id$="-line-${key.dataset.line}"]`);
      for (const line of lines) line.classList.toggle("hidden", off);
    }
    const copy = event.target.closest("button.copy");
    if (copy) {
      const code = copy.parentElement.querySelector("code");
      getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        document.execCommand("copy"); // a page of a file may be denied the clipboard
      }
      copy.textContent = "Copied";
    }
  });
  document.body.dataset.ready = "yes";
})();
