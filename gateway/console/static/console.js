// Keeps the list of calls up to date. Everything else works without it.
(() => {
  "use strict";
  const PAUSE_MS = 2000;
  const live = document.getElementById("live");
  const follow = document.getElementById("follow");
  const news = document.getElementById("news");
  if (!live || !live.dataset.follow || !follow) return;
  follow.closest("label").hidden = false;

  let shown = live.innerHTML;
  const ids = (part) => new Set([...part.querySelectorAll("td a[id]")].map((each) => each.id));

  async function update() {
    if (!follow.checked || document.hidden) return;
    const answer = await fetch(live.dataset.follow, { credentials: "same-origin", redirect: "error" });
    if (answer.status === 401) {
      follow.checked = false;
      news.textContent = "The session is over: load the page anew.";
      news.classList.remove("said");
      return;
    }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (!fresh || fresh.innerHTML === shown) return;
    shown = fresh.innerHTML;
    const known = ids(live);
    const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
    live.replaceChildren(...fresh.childNodes);
    const added = [...live.querySelectorAll("td a[id]")].filter((each) => !known.has(each.id));
    for (const each of added) each.closest("tr").classList.add("new");
    if (added.length) news.textContent = `${added.length} new calls`;
    if (focused) document.getElementById(focused)?.focus();
  }

  async function forever() {
    try {
      await update();
    } catch {
      // The gateway may be starting anew: the next turn tries again.
    }
    setTimeout(forever, PAUSE_MS);
  }
  setTimeout(forever, PAUSE_MS);
})();
