"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const cards = Array.from(document.querySelectorAll("article.card"));
  const addresses = JSON.parse(find("images").textContent);

  // Images: each address is in the page once, and is decoded when its card comes near the window.
  const show = (card) => {
    for (const image of card.querySelectorAll("img[data-image]")) {
      image.src = addresses[Number(image.dataset.image)];
      image.removeAttribute("data-image");
    }
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        show(entry.target);
        watcher.unobserve(entry.target);
      }
    }
  }, { rootMargin: "800px" });
  cards.forEach((card) => watcher.observe(card));
  window.addEventListener("beforeprint", () => cards.forEach(show));

  // The wipe: a range input over the pair, so that mouse, touch and arrow keys all work.
  document.addEventListener("input", (event) => {
    const box = event.target.closest(".compare");
    if (box) box.style.setProperty("--x", event.target.value + "%");
  });

  // Sorting and filtering.
  const sort = find("sort"), direction = find("direction"), status = find("status"), task = find("task"), search = find("find");
  const main = find("cards"), nothing = find("nothing"), shown = find("shown");
  const texts = new Map(cards.map((card) => [card, (card.dataset.id + " " + card.querySelector(".body").textContent).toLowerCase()]));
  const collator = new Intl.Collator(undefined, { numeric: true });
  const keyOf = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  let descending = false;

  const compare = (name) => {
    const key = keyOf(name), sign = descending ? -1 : 1;
    const place = (a, b) => Number(a.dataset.place) - Number(b.dataset.place);
    if (name === "id") return (a, b) => sign * collator.compare(a.dataset.id, b.dataset.id) || place(a, b);
    return (a, b) => {
      const left = a.dataset[key], right = b.dataset[key];
      if ((left === "") !== (right === "")) return left === "" ? 1 : -1; // without a number: last, whichever way
      return sign * (Number(left) - Number(right)) || place(a, b);
    };
  };
  const fits = (card, words) => {
    const wanted = status.value, state = card.dataset.status;
    if (wanted === "failed" ? state === "ok" : wanted === "warned" ? card.dataset.warnings === "0" : wanted && wanted !== state) return false;
    if (task.value && card.dataset.task !== task.value) return false;
    return words.every((word) => texts.get(card).includes(word));
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const card of cards) {
      card.hidden = !fits(card, words);
      count += card.hidden ? 0 : 1;
    }
    nothing.hidden = count > 0;
    shown.textContent = count + " of " + cards.length;
  };
  const order = () => {
    main.append(...cards.slice().sort(compare(sort.value)), nothing);
    direction.firstElementChild.textContent = descending ? "\u2193" : "\u2191";
    direction.setAttribute("aria-pressed", String(descending));
  };
  sort.addEventListener("change", () => { descending = !["place", "id"].includes(sort.value); order(); });
  direction.addEventListener("click", () => { descending = !descending; order(); });
  [status, task].forEach((control) => control.addEventListener("change", filter));
  search.addEventListener("input", filter);
  document.querySelector("form.toolbar").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      search.focus();
    }
  });

  // Colours: follow the system, or stay as chosen (remembered where the browser lets a local page remember).
  const themes = ["auto", "light", "dark"], names = { auto: "Auto", light: "Light", dark: "Dark" };
  let theme = "auto";
  const paint = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    find("theme-name").textContent = names[theme];
    find("theme").setAttribute("aria-label", "Colours: " + (theme === "auto" ? "follow the system" : theme));
  };
  try { theme = themes.includes(localStorage.getItem("editscore-theme")) ? localStorage.getItem("editscore-theme") : "auto"; } catch { theme = "auto"; }
  find("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try { localStorage.setItem("editscore-theme", theme); } catch { /* a private window: the choice lasts as long as the page */ }
    paint();
  });
  paint();
  if (sort.value !== "place") order(); // a reload may keep the controls
  filter();
  document.documentElement.dataset.ready = "true";
})();
