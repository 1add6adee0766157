//! Frames, messages, status codes and key identity: everything that crosses a process boundary as bytes.
