for (const box of document.querySelectorAll(".compare")) {
  const range = box.querySelector("input");
  const show = () => {
    box.style.setProperty("--at", range.value + "%");
    range.setAttribute("aria-valuetext", range.value + "% original");
  };
  range.addEventListener("input", show);
  box.classList.add("live");
  show();
}
