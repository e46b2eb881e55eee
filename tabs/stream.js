// Keeps the stream of answers that Gradio reads open while an answer is due.
//
// The server closes a page's stream when no event is pending. If the page sends one more event before it has read the
// close, Gradio's client takes the closing stream for an open one, and nobody reads the answer. Here a close is passed
// on only when nothing is due; otherwise the next stream continues this one.
(() => {
  const send = window.fetch;
  const sending = new Set(); // requests for events that the server has not accepted yet
  const due = new Set(); // the ids of events that have no answer
  const early = new Set(); // of events that were answered before their id was known here

  async function join(input, init) {
    const request = send(input, init);
    const accepted = request.then(async (response) => {
      if (!response.ok) return;
      const { event_id: id } = await response.clone().json();
      if (!early.delete(id)) due.add(id);
    });
    const settled = accepted.catch(() => {}).finally(() => sending.delete(settled)); // the caller has the error
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

    // A stream does not pull again by itself after a pull that brought nothing: returns whether this one did.
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
        throw error; // Gradio's client says that the connection is lost
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
