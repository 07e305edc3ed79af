// Light or dark as this browser keeps it. It runs before anything is painted, so that nothing is painted in the other.

const kept = localStorage.getItem("telltale-theme"); // written by preferences.js
if (kept) document.documentElement.dataset.theme = kept;
