// Keeps Gradio's event stream open while an event has no answer.
//
// The server closes a page's stream when no event is pending. If the page sends another event before it has read the end
// of the stream, Gradio's client believes the stream to be open and never reads the answer. This wrapper of fetch reports
// the end of the stream only when all events are answered; otherwise it opens a new stream and continues with it.
(() => {
  const send = window.fetch;
  const sending = new Set(); // submissions that the server has not accepted yet
  const due = new Set(); // ids of events without an answer
  const early = new Set(); // ids of events answered before their submission returned

  async function join(input, init) {
    const request = send(input, init);
    const accepted = request.then(async (response) => {
      if (!response.ok) return;
      const { event_id: id } = await response.clone().json();
      if (!early.delete(id)) due.add(id);
    });
    const settled = accepted.catch(() => {}).finally(() => sending.delete(settled)); // the caller handles the error
    sending.add(settled);
    await settled;
    return request;
  }

  async function open(request) {
    const response = await send(request.clone());
    if (!response.ok) throw new Error(`The stream of answers could not be opened again: ${response.status}`);
    return response.body.getReader();
  }

  function read(request, first) {
    const decoder = new TextDecoder();
    const encoder = new TextEncoder();
    let reader = first.body.getReader();
    let rest = "";

    // Returns whether it has enqueued a chunk: a stream does not call pull again after a pull without one.
    async function pull(controller) {
      const { done, value } = await reader.read();
      if (done) {
        controller.close();
        return true;
      }
      rest += decoder.decode(value, { stream: true });
      const events = rest.split("\n\n");
      rest = events.pop();
      let brought = false;
      for (const event of events) {
        const { msg, event_id: id } = JSON.parse(event.replace(/^data: ?/, ""));
        if (msg === "process_completed" && !due.delete(id)) early.add(id);
        if (msg === "close_stream") {
          await Promise.all(sending);
          if (due.size) {
            reader = await open(request);
            rest = "";
            break;
          }
          early.clear();
        }
        controller.enqueue(encoder.encode(`${event}\n\n`));
        brought = true;
      }
      return brought;
    }

    async function next(controller) {
      try {
        while (!(await pull(controller)));
      } catch (error) {
        due.clear();
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
