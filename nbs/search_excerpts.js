/* Below each title that a search finds, the place in the page that speaks of it. Sphinx
   would fetch the page, which a browser refuses to a page from a disk; here the texts of
   all pages are in PAGE_TEXTS: {page: [[anchor, text, is code], ...]}. */
(() => {
  const BEFORE = 10;                       // words of an excerpt before the first hit
  const WORDS = 40;                        // and in all
  const query = new URLSearchParams(window.location.search).get("q") || "";
  const pieces = (text) => text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) || [];
  let stemmer = null;                      // Sphinx's own, whose script comes later
  const stem = (word) => (stemmer ??= new Stemmer()).stemWord(word);
  const terms = [...new Set(pieces(query))];

  const says = (text, term) =>
    pieces(text).some((word) => word.includes(term) || stem(word) === stem(term));

  /* How many of the terms a text has; prose with one comes before code with two. */
  function score([, text, isCode]) {
    const count = terms.filter((term) => says(text, term)).length;
    return isCode ? count * 0.4 : count;
  }

  /* Of a page, or of a place in it, the text that says most. */
  function best(texts) {
    const scores = texts.map(score);
    const most = Math.max(0, ...scores);
    return most > 0 ? texts[scores.indexOf(most)][1] : null;
  }

  function textFor(address) {
    const url = new URL(address);
    const home = new URL(DOCUMENTATION_OPTIONS.URL_ROOT ||
      document.documentElement.dataset.content_root || "./", window.location);
    const page = decodeURIComponent(url.pathname.slice(home.pathname.length))
      .replace(/\.html$/, "");
    const all = PAGE_TEXTS[page] || [];
    const anchor = decodeURIComponent(url.hash.slice(1));
    const here = all.filter(([place]) => place === anchor);
    return best(here) || (here.length > 0 && anchor ? here[0][1] : best(all));
  }

  /* Words, each formula as one, around the first that was asked for. */
  function excerpt(text) {
    const words = text.match(/\\\(.*?\\\)\S*|\\\[.*?\\\]|\S+/g) || [];
    const hit = (word) => terms.some((term) => says(word, term));
    const first = Math.max(0, words.findIndex(hit) - BEFORE);
    const shown = words.slice(first, first + WORDS);
    const made = document.createElement("p");
    made.className = "excerpt";
    made.append(first > 0 ? "… " : "");
    for (const word of shown) {
      const marked = hit(word) && !word.startsWith("\\");
      const node = document.createElement(marked ? "mark" : "span");
      node.textContent = word;
      made.append(node, " ");
    }
    made.append(first + WORDS < words.length ? "…" : "");
    return made;
  }

  function complete(item) {
    const link = item.querySelector("a");
    const text = link && !item.querySelector(".excerpt") && textFor(link.href);
    if (!text) return;
    const made = excerpt(text);
    item.append(made);
    window.MathJax?.typesetPromise?.([made]);
  }

  document.addEventListener("DOMContentLoaded", () => {
    const results = document.getElementById("search-results");
    const look = () => results.querySelectorAll("li").forEach(complete);
    new MutationObserver(look).observe(results, { childList: true, subtree: true });
    look();
  });
})();
