//! Loads the kernel side on this kernel.
use spandrel_probes::{BackendChoice, Capture, CaptureSettings};
use std::sync::mpsc::sync_channel;

#[test]
fn each_backend_of_this_kernel_starts_and_its_counters_close() {
    for backend in [BackendChoice::Socket, BackendChoice::Syscall] {
        let (sink, events) = sync_channel(1024);
        let settings = CaptureSettings {
            backend,
            ..CaptureSettings::default()
        };
        let capture = Capture::start(settings, sink).unwrap();
        println!("{:#?}", capture.status());
        std::process::Command::new("python3").args(["-c", "
import socket
s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen()
c=socket.create_connection(s.getsockname()); a,_=s.accept()
c.sendall(b'hello'); print(a.recv(10)); a.sendall(b'world!'); c.recv(10); c.close(); a.recv(1); a.close()
"]).status().unwrap();
        let counters = capture.stop();
        for batch in events.try_iter() {
            for event in batch {
                println!("{event:?}");
            }
        }
        println!("{counters:#?}");
        assert!(counters.is_closed());
    }
}
