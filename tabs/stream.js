// Keeps Gradio's event stream open while any event is unanswered.
//
// The server closes a page's stream when no event is pending. If the page sends another event before it has read the
// end of the stream, Gradio's client assumes that the stream is still open and never reads the answer. This wrapper of
// fetch reports the end of the stream only when all events are answered; otherwise it continues with a new stream.
(() => {
  const send = window.fetch;
  const sending = new Set(); // submissions that the server has not accepted yet
  const unanswered = new Set(); // event ids
  const answeredEarly = new Set(); // ids of events answered before their submission returned

  async function join(input, init) {
    const request = send(input, init);
    const accepted = request.then(async (response) => {
      if (!response.ok) return;
      const { event_id: id } = await response.clone().json();
      if (!answeredEarly.delete(id)) unanswered.add(id);
    });
    const settled = accepted.catch(() => {}).finally(() => sending.delete(settled)); // the caller handles the error
    sending.add(settled);
    await settled;
    return request;
  }

  async function reopen(request) {
    const response = await send(request.clone());
    if (!response.ok) throw new Error(`The event stream could not be reopened: ${response.status}`);
    return response.body.getReader();
  }

  function read(request, first) {
    const decoder = new TextDecoder();
    const encoder = new TextEncoder();
    let reader = first.body.getReader();
    let buffer = "";

    // Returns whether it has enqueued a chunk; a ReadableStream does not call pull again if none was enqueued.
    async function pull(controller) {
      const { done, value } = await reader.read();
      if (done) {
        controller.close();
        return true;
      }
      buffer += decoder.decode(value, { stream: true });
      const events = buffer.split("\n\n");
      buffer = events.pop();
      let enqueued = false;
      for (const event of events) {
        const { msg, event_id: id } = JSON.parse(event.replace(/^data: ?/, ""));
        if (msg === "process_completed" && !unanswered.delete(id)) answeredEarly.add(id);
        if (msg === "close_stream") {
          await Promise.all(sending);
          if (unanswered.size) {
            reader = await reopen(request);
            buffer = "";
            break;
          }
          answeredEarly.clear();
        }
        controller.enqueue(encoder.encode(`${event}\n\n`));
        enqueued = true;
      }
      return enqueued;
    }

    async function next(controller) {
      try {
        while (!(await pull(controller)));
      } catch (error) {
        unanswered.clear();
        throw error; // Gradio's client reports the lost connection
      }
    }
    return new ReadableStream({ pull: next, cancel: (reason) => reader.cancel(reason) });
  }

  window.fetch = async (input, init) => {
    const { pathname } = new URL(input.url ?? input, location);
    if (pathname.endsWith("/queue/join")) return join(input, init);
    if (!pathname.endsWith("/queue/data")) return send(input, init);
    const request = new Request(input, init);
    const response = await send(request.clone());
    return response.ok ? new Response(read(request, response), response) : response;
  };
})();
