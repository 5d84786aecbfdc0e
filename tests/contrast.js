// Texts of the page whose contrast with what is behind them is below 4.5:1, as WCAG 2 computes it.
(() => {
    const parse = colour => {
        const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
        return colour.startsWith('color(srgb') ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
    };
    const over = ([r, g, b, a], back) => [r, g, b].map((value, i) => value * a + back[i] * (1 - a));
    const luminance = rgb => {
        const [r, g, b] = rgb.map(value => value / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ancestors = each => each ? [...ancestors(each.parentElement), each] : [];
    const faint = [];
    const check = (element, text, pseudo) => {
        const chain = ancestors(element);
        let back = [255, 255, 255], opacity = 1;
        for (const each of chain) {
            const style = getComputedStyle(each);
            opacity *= style.opacity;
            back = over(parse(style.backgroundColor), back);
        }
        const [r, g, b, a] = parse(getComputedStyle(element, pseudo).color);
        const [high, low] = [luminance(over([r, g, b, a * opacity], back)), luminance(back)].sort((x, y) => y - x);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} <${element.tagName.toLowerCase()} class="${element.className}"> ${text.slice(0, 40)}`);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
        const shown = text && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
        if (shown && !['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName)) check(element, text);
    }
    document.querySelectorAll('input').forEach(each => check(each, each.placeholder, '::placeholder'));
    return [...new Set(faint)];
})()
