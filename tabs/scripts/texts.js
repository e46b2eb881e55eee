// Texts that the scripts show, in both languages, and the page's language.

/** @type {Record<string, Bilingual>} */
export const CONNECTION = {
  away: { en: "The server does not answer. What you press is done when it is back.", zh: "服务器没有应答。你按下的操作会在它恢复后执行。" },
  catchingUp: { en: "Catching up …", zh: "正在赶上进度……" },
  blocked: {
    en: "This network blocks WebSockets, which this page needs. Please try another network.",
    zh: "当前网络阻止了本页需要的 WebSocket 连接。请换一个网络再试。",
  },
  outdated: { en: "This page is of an older version. Please reload it: nothing is lost.", zh: "本页的版本已旧。请重新加载：什么都不会丢。" },
  replaced: { en: "This page is open in another tab. Reload it to go on here.", zh: "本页已在另一个标签页中打开。重新加载即可在此继续。" },
};

/** @type {Bilingual} */
export const NOT_DRAWN = { en: "The chart could not be drawn. Reload the page to try again.", zh: "图没有画出来。请重新加载页面。" };

/** @type {Bilingual} */
export const LEFT_OUT = { en: "Left out:", zh: "已忽略：" };

/**
 * The sentence about a run that was trained again with another result.
 *
 * @param {string} metric
 * @param {number | null} before
 * @param {number | null} after
 * @returns {Bilingual}
 */
export function otherResult(metric, before, after) {
  return {
    en: `Trained again on another processor or version: ${metric} is ${after}, it was ${before}.`,
    zh: `在另一种处理器或版本上重新训练：${metric} 为 ${after}，之前为 ${before}。`,
  };
}

/**
 * @param {number[]} speeds
 * @returns {Bilingual}
 */
export function speedRule(speeds) {
  return { en: `Speed must be one of ${speeds.join(", ")}.`, zh: `速度必须是 ${speeds.join("、")} 之一。` };
}

/** The page's language. @returns {Language} */
export function language() {
  return document.documentElement.dataset.spoken === "zh" ? "zh" : "en";
}
