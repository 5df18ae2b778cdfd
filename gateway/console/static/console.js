// Keeps what changes up to date. Everything works without it, by the link to refresh.
(() => {
  "use strict";
  const PAUSE_MS = 2000;
  const live = document.getElementById("live");
  const follow = document.getElementById("follow");
  const news = document.getElementById("news");
  if (!live || !(live.dataset.follow || live.dataset.tell)) return;
  if (follow) follow.closest("label").hidden = false;

  let shown = live.innerHTML;
  let over = false;
  const ids = (part) => new Set([...part.querySelectorAll("td a[id]")].map((each) => each.id));

  function say(text) {
    if (news) news.textContent = text;
  }

  async function update() {
    if (document.hidden || (follow && !follow.checked)) return;
    const address = live.dataset.follow || live.dataset.tell;
    const answer = await fetch(address, {
      credentials: "same-origin",
      redirect: "error",
      headers: { "x-console-poll": "1" },
    });
    if (answer.status === 401) {
      over = true;
      if (news) news.classList.remove("said");
      say("The session is over: load the page anew.");
    }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (!fresh || fresh.innerHTML === shown) return;
    if (live.dataset.tell) {
      // Never moved under somebody's hand who is about to answer.
      say("This list has changed: refresh it.");
      return;
    }
    shown = fresh.innerHTML;
    const known = ids(live);
    const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
    live.replaceChildren(...fresh.childNodes);
    const added = [...live.querySelectorAll("td a[id]")].filter((each) => !known.has(each.id));
    for (const each of added) each.closest("tr").classList.add("new");
    if (added.length) say(`${added.length} new calls`);
    if (focused) document.getElementById(focused)?.focus();
    if (!fresh.dataset.follow && !follow) location.reload();
  }

  async function forever() {
    try {
      await update();
    } catch {
      // The gateway may be starting anew: the next turn tries again.
    }
    if (!over) setTimeout(forever, PAUSE_MS);
  }
  setTimeout(forever, PAUSE_MS);
})();
