// What the theme leaves out for the keyboard and for screen readers: the search's name, and code that scrolls can be reached.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
const reachable = () => {
  for (const code of document.querySelectorAll(".md-typeset pre > code, .md-typeset__scrollwrap")) {
    if (code.scrollWidth > code.clientWidth) code.setAttribute("tabindex", "0");
    else code.removeAttribute("tabindex");
  }
};
// a button at each block is no landmark of the page
const plain = () => document.querySelectorAll(".md-code__nav").forEach(nav => nav.setAttribute("role", "presentation"));
const afterTheTheme = () => setTimeout(() => { reachable(); plain(); }, 300); // which takes its own tabindex away when it lays out
addEventListener("load", afterTheTheme);
addEventListener("resize", afterTheTheme);
