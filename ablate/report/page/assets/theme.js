// Before anything is drawn, so that a dark page never flashes white.
(() => {
  "use strict";
  try {
    const chosen = localStorage.getItem("ablate-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch { /* storage may be forbidden */ }
})();
