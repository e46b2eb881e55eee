// Texts that the scripts show, in both languages, and the page's language.

/** @type {Record<string, Bilingual>} */
export const CONNECTION = {
  away: { en: "The server does not answer. What you press is done when it is back.", zh: "服务器没有应答。你按下的操作会在它恢复后执行。" },
  catchingUp: { en: "Catching up …", zh: "正在赶上进度……" },
  blocked: {
    en: "This network blocks WebSockets, which this page needs. Please try another network.",
    zh: "当前网络阻止了本页需要的 WebSocket 连接。请换一个网络再试。",
  },
  full: {
    en: "Too many pages are open from your address. This one connects when others are closed.",
    zh: "来自你这个地址的页面太多。关闭一些后，本页会自动连接。",
  },
  outdated: { en: "This page is out of date. Please reload it: nothing is lost.", zh: "本页的版本已旧。请重新加载：什么都不会丢。" },
  replaced: { en: "This page is open in another tab. Reload it to go on here.", zh: "本页已在另一个标签页中打开。重新加载即可在此继续。" },
};

/** @type {Bilingual} */
export const NOT_DRAWN = { en: "The chart could not be drawn. Reload the page to try again.", zh: "图没有画出来。请重新加载页面。" };

/** @type {Bilingual} */
export const PAUSED_BY_RELOAD = {
  en: "The page was reloaded during this run. Press Continue to go on.",
  zh: "训练途中页面重新加载过。按“继续”接着训练。",
};

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

/** @type {Bilingual} */
export const LINK_TOO_LONG = {
  en: "The settings and changes of a link must have at most 8000 characters.",
  zh: "链接中的设置和改动最多 8000 个字符。",
};

/**
 * @param {string} version
 * @param {string} known
 * @returns {Bilingual}
 */
export function otherVersion(version, known) {
  const shown = version.slice(0, 20);
  return { en: `Version must be ${known}, not ${shown}.`, zh: `版本必须是 ${known}，不能是 ${shown}。` };
}

/**
 * @param {string} name
 * @param {string[]} names
 * @returns {Bilingual}
 */
export function noSuchSetting(name, names) {
  const shown = name.slice(0, 40);
  return {
    en: `Locked and hidden settings must be among ${names.join(", ")}, not ${shown}.`,
    zh: `锁定和隐藏的设置必须在 ${names.join("、")} 之中，不能是 ${shown}。`,
  };
}

/**
 * @param {string} key
 * @returns {Bilingual}
 */
export function noSuchLesson(key) {
  const shown = key.slice(0, 40);
  return { en: `There is no lesson “${shown}”.`, zh: `没有“${shown}”这一课。` };
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
