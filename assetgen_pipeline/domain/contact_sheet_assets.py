"""The style and the script of a contact sheet, written into the page as they are.

Neither may fetch anything: the page is read offline, and its policy forbids it.
"""

STYLE = """
:root{color-scheme:light dark;--bg:light-dark(#f4f2ed,#131312);--card:light-dark(#fff,#1d1d1b);
--stage:light-dark(#e9e6df,#0c0c0b);--ink:light-dark(#1b1b1a,#f1eee7);
--dim:light-dark(#63605a,#a5a097);--line:light-dark(#d9d5cb,#34322e);
--accent:light-dark(#c2410c,#fb923c);--ok:light-dark(#166534,#4ade80);
--bad:light-dark(#b42318,#ff8a7a);--stop:light-dark(#7c3aed,#c4a6ff);
--idle:light-dark(#57534e,#b8b2a8)}
:root[data-theme=light]{color-scheme:light}:root[data-theme=dark]{color-scheme:dark}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);line-height:1.45;
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.top{max-width:1800px;margin:0 auto;padding:28px clamp(14px,3vw,40px) 6px}
h1{margin:0;font-size:clamp(22px,3.2vw,34px);line-height:1.12;letter-spacing:-.02em;
font-weight:750;overflow-wrap:anywhere}
.meta{margin:6px 0 0;color:var(--dim);overflow-wrap:anywhere}
.totals{display:flex;flex-wrap:wrap;gap:10px 34px;margin:20px 0 4px;padding:14px 0 0;
border-top:3px solid var(--ink)}
.totals div{display:flex;flex-direction:column-reverse}
.totals dt{color:var(--dim);font-size:12.5px}
.totals dd{margin:0;font-size:24px;font-weight:700;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.bar{position:sticky;top:0;z-index:2;background:var(--bg);border-bottom:1px solid var(--line)}
.bar form{max-width:1800px;margin:0 auto;padding:10px clamp(14px,3vw,40px);display:flex;
flex-wrap:wrap;gap:8px 14px;align-items:center}
.bar fieldset{display:flex;flex-wrap:wrap;gap:6px;border:0;margin:0;padding:0;min-width:0}
.bar legend,.hide{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.bar label{position:relative;display:block}
.bar input[type=radio]{position:absolute;inset:0;opacity:0;margin:0;cursor:pointer}
.bar label span{display:block;padding:5px 12px;border:1px solid var(--line);border-radius:99px;
background:var(--card);font-size:13.5px;white-space:nowrap}
.bar input:checked+span{background:var(--ink);border-color:var(--ink);color:var(--bg)}
.bar input:focus-visible+span,.card:focus-visible,.theme:focus-visible,.pages a:focus-visible,
.bar input[type=search]:focus-visible{
outline:3px solid var(--accent);outline-offset:2px}
.bar input[type=search]{flex:1 1 200px;min-width:0;max-width:420px;padding:7px 12px;font:inherit;
font-size:16px;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:8px}
.theme{width:36px;height:36px;padding:0;font-size:17px;line-height:1;color:inherit;cursor:pointer;
background:var(--card);border:1px solid var(--line);border-radius:99px}
.pages{max-width:1800px;margin:0 auto;padding:6px clamp(14px,3vw,40px);display:flex;flex-wrap:wrap;
gap:6px;align-items:center;color:var(--dim)}
.pages a,.pages b{min-width:36px;padding:5px 8px;text-align:center;border:1px solid var(--line);
border-radius:8px;background:var(--card);color:var(--ink);text-decoration:none}
.pages b{background:var(--ink);color:var(--bg)}
.keys{max-width:1800px;margin:0 auto;padding:0 clamp(14px,3vw,40px) 30px;color:var(--dim);
font-size:13px}
kbd{padding:1px 6px;border:1px solid var(--line);border-radius:5px;background:var(--card);
font:12px/1.4 ui-monospace,monospace}
.bar output{color:var(--dim);font-size:13.5px;margin-left:auto;font-variant-numeric:tabular-nums}
main{max-width:1800px;margin:0 auto;padding:18px clamp(14px,3vw,40px) 40px;display:flex;
flex-wrap:wrap;gap:16px}
main::after{content:"";flex:99 1 0}
.card{display:flex;flex-direction:column;min-width:0;background:var(--card);border-radius:10px;
border:1px solid var(--line);overflow:hidden;content-visibility:auto;
contain-intrinsic-size:auto 320px;flex:1 1 216px;max-width:400px}
.v2{flex:2 1 448px;max-width:800px}.v3{flex:3 1 680px;max-width:1200px}
.strip{display:grid;grid-auto-flow:column;grid-auto-columns:minmax(0,1fr);gap:1px;
background:var(--line)}
figure{margin:0;background:var(--stage);min-width:0;display:flex;flex-direction:column}
.stage{height:176px;padding:8px 8px 4px;display:grid;place-items:center;overflow:auto}
.stage img{display:block;width:auto;height:auto;max-width:100%;max-height:164px}
figcaption{padding:0 10px 6px;color:var(--dim);font-size:12px;text-align:center;
font-variant-numeric:tabular-nums}
.gone{text-align:center;font-size:13px;color:var(--dim);overflow-wrap:anywhere}
.gone b{display:block;font-size:14px}
.gone code{font-size:12px}
.body{padding:11px 13px 13px;display:flex;flex-direction:column;gap:6px}
.head{display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline}
h2{margin:0;flex:1 0 100%;font-size:15px;line-height:1.3;overflow-wrap:anywhere;min-width:0}
.cost{margin-left:auto;color:var(--dim);font-size:13px;font-variant-numeric:tabular-nums}
.tag{font-size:12.5px;font-weight:600;white-space:nowrap}
.tag::before{content:"";display:inline-block;width:8px;height:8px;border-radius:50%;
margin-right:5px;background:currentColor}
.delivered{color:var(--ok)}.failed,.partial{color:var(--bad)}.blocked{color:var(--stop)}
.not_attempted{color:var(--idle)}
.prompt{margin:0;display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:3;
overflow:hidden;overflow-wrap:anywhere;white-space:pre-line}
.card:focus .prompt,.card:focus-within .prompt{-webkit-line-clamp:99}
.note{margin:0;font-size:13px;color:var(--dim);overflow-wrap:anywhere}
[hidden]{display:none!important}
@media(max-width:720px){main{flex-direction:column}.card{flex:none;max-width:none}
.stage{height:auto;min-height:150px}.stage img{max-height:240px}
.totals{gap:10px 22px}.totals dd{font-size:20px}.bar{position:static}
.bar output{margin-left:0}.keys{display:none}.bar input[type=search]{max-width:none;flex-basis:100%}.theme{margin-left:auto}}
@media print{.bar,.pages,.keys{display:none}.card{content-visibility:visible;break-inside:avoid}
.prompt{-webkit-line-clamp:99}}
"""

SCRIPT = """
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const form = document.querySelector("form");
  const find = form.elements.find;
  const shown = document.querySelector("output");
  const text = cards.map((card) => card.querySelector(".body").textContent.toLowerCase());
  const apply = () => {
    const status = form.elements.status.value;
    const words = find.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let count = 0;
    cards.forEach((card, index) => {
      const fits = (status === "all" || card.dataset.status.split(" ").includes(status))
        && words.every((word) => text[index].includes(word));
      card.hidden = !fits;
      count += fits;
    });
    shown.value = count === cards.length ? `${count} rows` : `${count} of ${cards.length} rows`;
  };
  const root = document.documentElement;
  const toggle = document.querySelector(".theme");
  const themes = ["system", "light", "dark"];
  // Storage is refused in some windows; then each page begins with the system's colours.
  const remembered = (value) => {
    try {
      if (value) sessionStorage.setItem("theme", value);
      return sessionStorage.getItem("theme");
    } catch { return value; }
  };
  const paint = (theme) => {
    root.dataset.theme = themes.includes(theme) ? theme : "system";
    toggle.textContent = { light: "\u2600", dark: "\u263e" }[root.dataset.theme] || "\u25d0";
    toggle.setAttribute("aria-label", `Colours: ${root.dataset.theme}`);
  };
  const turn = () => {
    const next = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    remembered(next);
    paint(next);
  };
  toggle.addEventListener("click", turn);
  paint(remembered());
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === find) { find.value = ""; apply(); }
    if (event.target === find) return;
    if (event.key === "/") { event.preventDefault(); find.focus(); }
    if (event.key === "t") turn();
    if (event.key === "f") {
      const filters = [...form.elements.status];
      const at = filters.findIndex((one) => one.checked);
      filters[(at + 1) % filters.length].checked = true;
      apply();
    }
    if (event.target.type === "radio" && event.key.startsWith("Arrow")) return;
    const step = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const visible = cards.filter((card) => !card.hidden);
    const at = visible.indexOf(document.activeElement);
    const next = visible[at < 0 ? 0 : at + step];
    if (next) { event.preventDefault(); next.focus(); }
  });
  form.hidden = false;
  apply();
})();
"""
