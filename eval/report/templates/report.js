"use strict";
{
  const dialog = document.getElementById("enlarged");
  const openers = [...document.querySelectorAll(".enlarge")];
  let current = 0;

  const show = (index) => {
    current = (index + openers.length) % openers.length;
    const figure = openers[current].closest("figure");
    const title = figure.closest(".case").querySelector(".case-title").textContent;
    const pictures = [figure, figure.closest(".strip").querySelector("figure")].map((one) => ({
      image: one.querySelector(".picture"),
      caption: one.querySelector("b").textContent,
    }));
    const difference = figure.querySelector("img.difference");
    pictures.push({ image: difference, caption: `difference, times ${dialog.dataset.factor}` });
    dialog.querySelector("#enlarged-title").textContent = `${title}, ${figure.querySelector("figcaption").innerText}`;
    dialog.querySelectorAll("figure").forEach((place, number) => {
      const { image, caption } = pictures[number];
      place.hidden = !image || (number === 1 && image === pictures[0].image);
      if (place.hidden) return;
      place.querySelector("img").src = image.src;
      place.querySelector("img").alt = image.alt;
      place.querySelector("figcaption").textContent = caption;
    });
  };

  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {  // a page that was not served securely: let the reader press the keys
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl+C";
    }
  };

  document.querySelectorAll(".copy").forEach((button) => { button.hidden = false; });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.matches(".enlarge")) {
      show(openers.indexOf(button));
      dialog.showModal();
    } else if (button?.matches(".step")) {
      show(current + Number(button.dataset.by));
    } else if (button?.matches(".close") || event.target === dialog) {
      dialog.close();
    } else if (button?.matches(".copy")) {
      copy(button);
    }
  });
  dialog?.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) show(current + by);
  });
}
