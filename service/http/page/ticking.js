// A clock for the page, in a worker of its own: browsers let the timers of a page in the background run once a minute.

setInterval(() => postMessage(null), 500);
