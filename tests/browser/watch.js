// When a person has last done something, when the page has last asked to be computed anew, and how often it has asked.
// What it is told of a run may come in one with the end of it, and is not seen.
window.runs = 0;
window.watched = {
    done: 0,
    asked: 0,
    send: WebSocket.prototype.send,
    RERUN: 11 << 3 | 2,  // BackMsg.rerun_script of Streamlit
};
for (const type of ["keydown", "pointerdown", "pointerup", "click", "popstate"])
    addEventListener(type, () => { watched.done = performance.now(); }, true);
WebSocket.prototype.send = function (message) {
    if (message[0] === watched.RERUN) {
        window.runs += 1;
        watched.asked = performance.now();
    }
    return watched.send.call(this, message);
};
