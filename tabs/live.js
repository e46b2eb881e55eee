// Draws a lesson's live chart. Gradio calls this once for each chart, when its tab is first opened, with `element`,
// `props`, `watch` and `trigger`.
// props.structure: the Bokeh documents without arrays. props.base: a run's first frame, with all arrays.
// props.value: a later frame, with the arrays that differ from the base. Any frame may be dropped, since each refers to
// the base only. A frame of another run than the base's is outdated and ignored.

window.liveNets ??= {};
window.liveNets.chart = (element, props, watch, trigger) => {
  const ANNOUNCE_INTERVAL = 3000; // ms between two announcements of a screen reader

  const live = element.querySelector(".live");
  const panels = element.querySelector(".live-panels");
  const status = element.querySelector(".live-status");
  const announcer = element.querySelector(".live-spoken");
  const notes = element.querySelector(".live-notes");

  let structure = null; // the JSON that `figures` were built from
  let figures = []; // one for each panel: {model, scales, labels, tooltips, legend}
  let base = { text: null, run: -1, arrays: {}, blocks: "" };
  let lastValue = null; // the JSON of the last frame
  let lastFrame = null; // for a change of language
  let announcedAt = -Infinity;
  let announceTimer = null; // of the pending announcement

  // All charts share one script, which may not have loaded yet.
  window.bokehLoading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = live.dataset.bokeh;
    script.onload = () => {
      window.Bokeh.set_log_level("error"); // it warns about every chart without data
      resolve(window.Bokeh);
    };
    script.onerror = () => {
      window.bokehLoading = undefined; // so that the next chart tries again
      reject(new Error("BokehJS did not load"));
    };
    document.head.append(script);
  });

  function decode(name, text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return name.endsWith(".bytes") ? bytes : new Float32Array(bytes.buffer);
  }

  function decodeAll(encoded) {
    return Object.fromEntries(Object.entries(encoded).map(([name, text]) => [name, decode(name, text)]));
  }

  // A heat map's values, one byte each, as the 2D array that Bokeh's image glyph takes.
  function image(bytes, [rows, columns], { low, high }) {
    const { ndarray } = window.Bokeh.require("core/util/ndarray");
    const values = Float32Array.from(bytes, (byte) => low + (byte / 255) * (high - low));
    return ndarray(values, { dtype: "float32", shape: [rows, columns] });
  }

  async function build(text) {
    const Bokeh = await window.bokehLoading;
    const parts = JSON.parse(text);
    panels.dataset.count = parts.length;
    panels.replaceChildren();
    figures = [];
    for (const { document: item, ...rest } of parts) {
      const section = document.createElement("section");
      const heading = document.createElement("h3");
      const legend = document.createElement("ul");
      const plot = document.createElement("div");
      heading.innerHTML = rest.title;
      legend.className = "live-legend";
      legend.append(...rest.legend.map(entry));
      legend.hidden = rest.legend.length < 2; // the title names a single mark
      plot.className = "live-plot notranslate"; // Bokeh draws its text, so it must not be translated
      plot.translate = false;
      plot.setAttribute("role", "img");
      section.append(heading, legend, plot);
      panels.append(section);
      const views = await Bokeh.embed.embed_item(item, plot);
      figures.push({ ...rest, legend, model: [...views][0].model });
    }
    structure = text;
    paint();
    translate();
    dispatchEvent(new Event("live-nets-open")); // a link may have requested settings before the tab was opened
  }

  function entry({ mark, html, sign }) {
    const item = document.createElement("li");
    item.dataset.mark = mark;
    item.innerHTML = `<i></i>${html}`;
    item.firstChild.style.cssText = sign;
    return item;
  }

  // The chart's texts are set in the page's language; all other texts are HTML in both languages.
  const language = () => document.documentElement.dataset.spoken;

  function translate() {
    for (const { model, labels, tooltips } of figures) {
      model.below[0].axis_label = labels[0][language()];
      model.left[0].axis_label = labels[1][language()];
      for (const tool of model.toolbar.tools) tool.tooltips = tooltips[tool.name]?.[language()] ?? tool.tooltips;
    }
    if (lastFrame) {
      announcedAt = -Infinity;
      showStatus(lastFrame);
    }
  }

  // The page's colors, light or dark.
  function paint() {
    const style = getComputedStyle(document.body);
    const color = (name) => style.getPropertyValue(name).trim();
    const text = color("--body-text-color");
    const line = color("--border-color-primary");
    const background = color("--background-fill-primary");
    const scheme = document.body.classList.contains("dark") ? "dark" : "light";
    live.dataset.scheme = scheme;
    figures.forEach(({ model, scales }, p) => {
      model.setv({ background_fill_color: background, border_fill_color: background, outline_line_color: null });
      for (const axis of [...model.below, ...model.left]) {
        axis.setv({
          axis_label_text_color: text,
          axis_label_text_font_style: "normal",
          major_label_text_color: text,
          axis_line_color: line,
          major_tick_line_color: line,
          minor_tick_line_color: null,
        });
      }
      for (const grid of model.center.filter(({ type }) => type === "Grid")) grid.setv({ grid_line_color: line, grid_line_alpha: 0.6 });
      for (const [m, scale] of Object.entries(scales)) {
        const renderer = model.renderers.find(({ data_source }) => data_source.name === `${p}.${m}`);
        renderer.glyph.color_mapper.palette = scale[scheme];
      }
    });
  }

  function draw(arrays) {
    figures.forEach(({ model, legend }, p) => {
      for (const axis of ["x_range", "y_range"]) {
        const limits = arrays[`${p}.${axis}`];
        if (limits) model[axis].setv({ start: limits[0], end: limits[1] });
      }
      for (const item of legend.children) item.hidden = arrays[`${p}.${item.dataset.mark}.x`]?.length === 0;
      for (const { data_source: source, glyph } of model.renderers) {
        const fields = Object.keys(arrays).filter((name) => name.startsWith(`${source.name}.`));
        const data = Object.fromEntries(fields.map((name) => [name.slice(source.name.length + 1), arrays[name]]));
        if (data.bytes) {
          data.image = [image(data.bytes, data.size, glyph.color_mapper)];
          delete data.bytes;
          delete data.size;
        }
        source.data = data;
      }
    });
  }

  function showStatus(frame) {
    lastFrame = frame;
    const text = frame.text[language()];
    status.textContent = text;
    status.classList.toggle("live-bad", frame.state === "diverged" || frame.state === "error");
    clearTimeout(announceTimer);
    const wait = frame.state === live.dataset.state ? announcedAt + ANNOUNCE_INTERVAL - performance.now() : 0;
    announceTimer = setTimeout(announce, Math.max(0, wait), text);
  }

  function announce(text) {
    announcer.textContent = text;
    for (const plot of panels.querySelectorAll(".live-plot")) {
      plot.setAttribute("aria-label", `${plot.parentElement.firstChild.innerText}. ${text}`);
    }
    announcedAt = performance.now();
  }

  // Train and Pause are disabled when pressed, and browsers then drop the keyboard focus.
  const bar = live.closest(".lesson")?.querySelector(".lesson-buttons");
  let hadFocus = false; // whether one of them has the focus or lost it when it was disabled
  document.addEventListener("focusin", ({ target }) => (hadFocus = bar?.contains(target)));

  function keepFocus(tries = 40) {
    const active = document.activeElement;
    if (!hadFocus || tries === 0) return;
    if (active === document.body) bar.querySelector("button:enabled")?.focus();
    else if (active.disabled) setTimeout(keepFocus, 50, tries - 1); // the browser has not dropped the focus yet
  }

  if (bar) {
    const later = () => setTimeout(keepFocus, 50);
    new MutationObserver(later).observe(bar, { subtree: true, attributes: true, attributeFilter: ["disabled"] });
  }

  // Only changed elements, so that selection and scroll position survive frames.
  const contents = new Map();
  function replace(container, html) {
    if (contents.get(container) === html) return;
    contents.set(container, html);
    container.innerHTML = html;
  }

  function show(frame, arrays) {
    if (frame.run === base.run) {
      draw(arrays);
      replace(notes, frame.notes);
      replace(live.closest(".lesson-run").querySelector(".live-blocks"), frame.blocks ?? base.blocks);
    }
    showStatus(frame);
    live.dataset.state = frame.state;
    if (frame.step !== null) live.dataset.step = frame.step;
  }

  async function update() {
    const { structure: newStructure, base: newBase, value } = props; // copied: they may change during an await
    if (!newStructure) return; // no data yet
    if (newStructure !== structure) await build(newStructure);
    if (newBase !== base.text) {
      const frame = JSON.parse(newBase);
      if (frame.run >= base.run) {
        base = { text: newBase, run: frame.run, arrays: decodeAll(frame.arrays), blocks: frame.blocks };
        show(frame, base.arrays);
      } // else the frame is an outdated preview
    }
    if (!value || value === lastValue) return;
    lastValue = value;
    const frame = JSON.parse(value);
    const isMessage = frame.run === null; // without a chart
    if (isMessage || frame.run === base.run) show(frame, { ...base.arrays, ...decodeAll(frame.arrays ?? {}) });
  }

  // One update at a time, always with the newest frame: building a chart takes longer than the interval between frames.
  let updating = false;
  let pending = false;
  async function updateToNewest() {
    pending = true;
    if (updating) return;
    updating = true;
    try {
      while (pending) {
        pending = false;
        await update();
      }
    } catch (error) {
      const failed = { en: "The chart could not be drawn. Reload the page to try again.", zh: "图没有画出来。请重新加载页面。" };
      status.textContent = failed[language()];
      live.dataset.state = "error";
      throw error;
    } finally {
      updating = false;
    }
  }

  new MutationObserver(translate).observe(document.documentElement, { attributes: true, attributeFilter: ["data-spoken"] });
  new MutationObserver(paint).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  watch(["value", "base", "structure"], updateToNewest);
  watch("judged", () => live.closest(".lesson").dispatchEvent(new CustomEvent("judged", { detail: JSON.parse(props.judged) })));
  if (props.structure) updateToNewest();
  else trigger("submit");
};

// The ideas: a click sends the number of an idea. The URL may request settings for the lesson.
window.liveNets.ideas = (element, trigger, key) => {
  const lesson = element.closest(".lesson");
  element.addEventListener("click", ({ target }) => {
    const idea = target.closest("[data-idea]")?.dataset.idea;
    if (!idea) return;
    trigger("click", { idea: Number(idea) });
    const run = lesson.querySelector(".lesson-run");
    if (run.getBoundingClientRect().top < 0) run.scrollIntoView({ behavior: "smooth" }); // on phones the chart is far above
  });
  const openWithSettings = () => {
    // Not before the first view, which would overwrite the settings.
    if (window.liveNets.requested?.lesson !== key || !lesson.querySelector(".live-panels")?.dataset.count) return;
    const { settings } = window.liveNets.requested;
    window.liveNets.requested = undefined;
    trigger("submit", { settings });
  };
  addEventListener("live-nets-open", openWithSettings);
};

// The shipped nets: their cards are loaded when the tab is opened; a click sends the name of one.
window.liveNets.checkpoints = (element, trigger) => {
  element.addEventListener("click", ({ target }) => {
    const card = target.closest("[data-checkpoint]");
    if (!card) return;
    for (const each of element.querySelectorAll("[data-checkpoint]")) each.setAttribute("aria-pressed", String(each === card));
    trigger("click", { checkpoint: card.dataset.checkpoint });
  });
  trigger("submit");
};

// The details of one net below the cards: scrolled into view and focused when they are loaded.
window.liveNets.checkpoint = (element, watch) => {
  watch("value", () =>
    requestAnimationFrame(() => {
      element.querySelector("h3")?.focus({ preventScroll: true });
      element.scrollIntoView({ behavior: "smooth" });
    }),
  );
};
