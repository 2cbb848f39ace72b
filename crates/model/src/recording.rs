//! Recordings: events as JSON lines that a person can read, cut and shuffle.
//!
//! The first line is a [`Header`]; every other line is an [`Entry`]. Entries may stand in any order: reading sorts
//! events by their [`Stamp`](crate::Stamp) and identities by the time from which they hold.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::process::ProcessKey;
use crate::time::{ClockOffset, UnixTime};

/// Version of the format, raised when a reader of the old version would misread a file. Older ones, from 1 on, are read.
pub const VERSION: u32 = 1;

/// Longest line that is read, in bytes: a message of 64 KiB in base64 with room to spare.
pub const MAX_LINE: usize = 1 << 20;

/// The first line: what all entries share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub spandrel_recording: u32,
    /// Kernel time to Unix time at the start.
    pub clock_offset: ClockOffset,
    /// Seed of the trace and span ids of this run.
    pub id_seed: u64,
    /// The program and version that wrote it, for people.
    pub written_by: String,
}

/// All that a header of any version has in common.
#[derive(Deserialize)]
struct FormatVersion {
    spandrel_recording: u32,
    written_by: Option<String>,
}

/// A line after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// An event.
    Event(Event),
    /// What was found out about a process, so that a replay needs no `/proc` and no API server.
    Identity(RecordedIdentity),
}

/// What was found out about a process, from a time on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedIdentity {
    /// The process.
    #[serde(rename = "identity")]
    pub process: ProcessKey,
    /// From when it holds, until the next one of the process; the first one also holds for all before. Recordings that
    /// were written before this was recorded have none: then one counts for each program that the process executes, in the
    /// order of the file.
    #[serde(
        rename = "since_unix_ns",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub since: Option<UnixTime>,
    /// Its resource attributes.
    pub attributes: Vec<crate::Attribute>,
    /// Its pod, where that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<RecordedPod>,
    /// It is in a pod of which nothing was known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pod_unknown: bool,
}

impl RecordedIdentity {
    /// One without a time, in no pod.
    pub fn of(process: ProcessKey, attributes: Vec<crate::Attribute>) -> Self {
        Self {
            process,
            since: None,
            attributes,
            pod: None,
            pod_unknown: false,
        }
    }
}

/// What selectors ask of a pod, beyond what its resource says. Labels and annotations are those that the run has kept: to
/// export them, or because its own selectors name them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedPod {
    /// The namespace.
    pub namespace: String,
    /// The container, where that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The uppermost workload that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<RecordedWorkload>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedWorkload {
    /// As the API spells it, for example `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Reading failed.
    #[error("cannot read the recording: {0}")]
    Io(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line} of the recording is not valid: {problem}")]
    Line {
        /// 1-based.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Written by a newer program.
    #[error(
        "line {line} of the recording names version {found} of the format, this program reads version {VERSION} and \
         older ones: use the version of spandrel that wrote it{}",
        writer.as_ref().map(|writer| format!(", {writer}")).unwrap_or_default()
    )]
    Newer {
        /// 1-based.
        line: usize,
        /// The file's version.
        found: u32,
        /// What the file says of the program that wrote it.
        writer: Option<String>,
    },
}

/// A whole recording, its events in their total order.
#[derive(Debug)]
pub struct Recording {
    /// The first line.
    pub header: Header,
    /// What is known of processes: first what has no time, in file order, then in the order of time.
    pub identities: Vec<RecordedIdentity>,
    /// The events, sorted by stamp.
    pub events: Vec<Event>,
}

impl Recording {
    /// Reads all of it. The file is held in memory: a replay is not bounded by less than its input.
    pub fn read(mut input: impl BufRead) -> Result<Self, ReadError> {
        let mut line = Vec::new();
        let mut number = 0;
        let mut header = None;
        let mut identities = Vec::new();
        let mut events = Vec::new();
        loop {
            line.clear();
            number += 1;
            let limit = MAX_LINE as u64 + 1;
            let read = io::Read::take(&mut input, limit).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            if line.len() > MAX_LINE {
                let problem = format!("longer than {MAX_LINE} bytes");
                return Err(ReadError::Line {
                    line: number,
                    problem,
                });
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let problem = |error: serde_json::Error| ReadError::Line {
                line: number,
                problem: error.to_string(),
            };
            if header.is_none() {
                // The version first: another one may have other fields.
                let found: FormatVersion = serde_json::from_slice(&line).map_err(problem)?;
                if found.spandrel_recording == 0 {
                    return Err(ReadError::Line {
                        line: number,
                        problem: "versions of the format begin with 1, not 0".to_owned(),
                    });
                }
                if found.spandrel_recording > VERSION {
                    return Err(ReadError::Newer {
                        line: number,
                        found: found.spandrel_recording,
                        writer: found.written_by,
                    });
                }
                header = Some(serde_json::from_slice(&line).map_err(problem)?);
                continue;
            }
            match serde_json::from_slice(&line).map_err(problem)? {
                Entry::Event(event) => events.push(event),
                Entry::Identity(identity) => {
                    // Of the same time the line decides, so that their order in the file never does.
                    let line = identity.since.map(|_| line.clone());
                    identities.push((line, identity));
                }
            }
        }
        let header = header.ok_or(ReadError::Line {
            line: 1,
            problem: "the file is empty; expected a header".to_owned(),
        })?;
        events.sort_by_key(Event::stamp);
        identities.sort_by(|(left_line, left), (right_line, right)| {
            (left.since, left_line).cmp(&(right.since, right_line))
        });
        Ok(Self {
            header,
            identities: identities.into_iter().map(|(_, it)| it).collect(),
            events,
        })
    }
}

/// Writes one line.
pub fn write_line(mut output: impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut output, line)?;
    output.write_all(b"\n")
}

/// Bytes as text where they are printable ASCII with line ends, else as base64.
pub mod payload {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Form<'a> {
        Text(std::borrow::Cow<'a, str>),
        Base64(String),
    }

    /// Writes `{"text": ...}` or `{"base64": ...}`.
    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t');
        match std::str::from_utf8(bytes) {
            Ok(text) if bytes.iter().all(printable) => Form::Text(text.into()),
            _ => Form::Base64(STANDARD.encode(bytes)),
        }
        .serialize(serializer)
    }

    /// Reads either form.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(Bytes::from(text.into_owned())),
            Form::Base64(text) => STANDARD
                .decode(text)
                .map(Bytes::from)
                .map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{ConnectionId, Direction, KernelTime, Lineage, Message, Stamp};

    fn message(cpu: u16, time: u64, payload: &'static [u8]) -> Event {
        Event::Message(Message {
            stamp: Stamp {
                time: KernelTime(time),
                cpu,
                sequence: time,
            },
            connection: ConnectionId(7),
            direction: Direction::Ingress,
            position: 0,
            length: payload.len() as u32,
            unseen: 0,
            payload: Bytes::from_static(payload),
            tail: Bytes::new(),
            started: None,
            arrived: Some(KernelTime(1)),
            process: ProcessKey {
                tgid: 1,
                started: 2,
            },
            tid: 1,
            lineage: Lineage::default(),
            cgroup: 3,
            srtt_us: 4,
            retransmits: 5,
            flags: crate::MessageFlags::default(),
        })
    }

    fn written(events: &[Event]) -> Vec<u8> {
        let mut file = Vec::new();
        let header = Header {
            spandrel_recording: VERSION,
            clock_offset: ClockOffset(9),
            id_seed: 1,
            written_by: "test".to_owned(),
        };
        write_line(&mut file, &header).unwrap();
        for event in events {
            write_line(&mut file, &Entry::Event(event.clone())).unwrap();
        }
        file
    }

    #[test]
    fn a_shuffled_recording_reads_as_the_original() {
        let events = [
            message(0, 1, b"GET / HTTP/1.1\r\n"),
            message(1, 2, b"\0\xff"),
            message(0, 3, b"x"),
        ];
        let mut shuffled = events.clone();
        shuffled.reverse();
        let original = Recording::read(written(&events).as_slice()).unwrap();
        assert_eq!(original.events, events);
        assert_eq!(
            Recording::read(written(&shuffled).as_slice())
                .unwrap()
                .events,
            events
        );
    }

    #[test]
    fn a_recording_keeps_goroutines_and_threads_apart() {
        let lineages = [Lineage::Thread(7), Lineage::Goroutine { goroutine: 7 }];
        let events = lineages.map(|lineage| {
            let Event::Message(mut message) = message(0, 1, b"x") else {
                unreachable!()
            };
            message.lineage = lineage;
            Event::Message(message)
        });
        let file = String::from_utf8(written(&events)).unwrap();
        assert!(file.contains(r#""lineage":7,"#), "{file}");
        assert!(file.contains(r#""lineage":{"goroutine":7},"#), "{file}");
        let read = Recording::read(file.as_bytes()).unwrap();
        assert_eq!(read.events, events);
    }

    #[test]
    fn identities_are_read_by_their_time_and_those_without_one_come_first() {
        let line = |since: &str, name: &str| {
            format!(
                r#"{{"identity":{{"tgid":1,"started":2}},{since}"attributes":[{{"key":"service.name","value":"{name}"}}]}}"#
            )
        };
        let lines = [
            line(r#""since_unix_ns":9,"#, "late"),
            line("", "old"),
            line(r#""since_unix_ns":3,"pod":{"namespace":"shop"},"#, "a"),
            line(r#""since_unix_ns":3,"pod_unknown":true,"#, "b"),
        ];
        let read = |lines: &[String]| {
            let mut file = written(&[]);
            file.extend_from_slice(lines.join("\n").as_bytes());
            Recording::read(file.as_slice()).unwrap().identities
        };
        let identities = read(&lines);
        let names: Vec<_> = identities
            .iter()
            .map(|it| &it.attributes[0].value)
            .collect();
        assert_eq!(
            names,
            ["old", "a", "b", "late"].map(crate::Value::from).each_ref()
        );
        assert!(identities[2].pod_unknown);
        assert_eq!(identities[1].pod.as_ref().unwrap().namespace, "shop");
        let mut shuffled = lines;
        shuffled.reverse();
        assert_eq!(read(&shuffled), identities);
    }

    #[test]
    fn printable_bytes_stay_readable_in_the_file() {
        let text = String::from_utf8(written(&[message(0, 1, b"GET / HTTP/1.1\r\n")])).unwrap();
        assert!(
            text.contains(r#""payload":{"text":"GET / HTTP/1.1\r\n"}"#),
            "{text}"
        );
    }

    #[test]
    fn a_newer_version_is_refused_in_words_even_if_its_header_has_other_fields() {
        let refused = |header: &[u8]| Recording::read(header).unwrap_err().to_string();
        assert_eq!(
            refused(b"{\"spandrel_recording\":2,\"clock\":{}}\n"),
            "line 1 of the recording names version 2 of the format, this program reads version 1 and older ones: \
             use the version of spandrel that wrote it"
        );
        let none = refused(b"{\"spandrel_recording\":0,\"clock\":{}}\n");
        assert!(none.contains("begin with 1"), "{none}");
        let named = refused(b"{\"spandrel_recording\":2,\"written_by\":\"spandrel 9.0.0\"}\n");
        assert!(named.ends_with("that wrote it, spandrel 9.0.0"), "{named}");
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let mut file = written(&[]);
        file.extend_from_slice(b"{\"event\":\"nonsense\"}\n");
        let error = Recording::read(file.as_slice()).unwrap_err().to_string();
        assert!(
            error.starts_with("line 2 of the recording is not valid"),
            "{error}"
        );
    }
}
