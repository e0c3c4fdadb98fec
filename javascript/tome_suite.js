// Shows what binding finds in the prompt, below the prompt, a moment after the last key.
(() => {
    const WAIT_MS = 400;

    const watch = (tab) => {
        const root = gradioApp();
        const prompt = root.querySelector(`#${tab}_prompt textarea`);
        const found = root.querySelector(`#tome_${tab}_found`);
        const button = root.querySelector(`#tome_${tab}_read`);
        if (!prompt || !found || !button) return;
        (root.querySelector(`#${tab}_prompt_row`) ?? prompt.closest(".prompt-row, .row") ?? prompt).after(found);
        let timer = 0;
        const read = () => {
            clearTimeout(timer);
            timer = setTimeout(() => {
                const ticked = (id) => root.querySelector(`#script_${tab}_tome_${id}`)?.checked;
                const binds = root.querySelector(`#script_${tab}_tome_binding input`)?.checked;
                const isWanted = ticked("enabled-visible-checkbox") && binds;
                if (isWanted || found.innerText.trim()) button.click();
            }, WAIT_MS);
        };
        const accordion = button.closest(".input-accordion") || root.querySelector(`#script_${tab}_tome_enabled`);
        prompt.addEventListener("input", read);
        accordion?.addEventListener("input", read);
        accordion?.addEventListener("change", read);
        accordion?.addEventListener("click", read);
        read();
    };

    // the page is built when the webui starts: what has come since is asked for when it is opened
    const renew = () =>
        ["script_txt2img_tome_refresh", "script_img2img_tome_refresh", "tome_refresh", "tome_show_report"].forEach((id) =>
            gradioApp().querySelector(`#${id}`)?.click(),
        );

    onUiLoaded(() => {
        ["txt2img", "img2img"].forEach(watch);
        renew();
    });
})();
