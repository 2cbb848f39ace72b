//! Route templates told from paths, with a bound on how many there can be.
//!
//! A segment that looks like an identifier becomes `{id}` at once. Of the others a service may have a bounded number at
//! each place. With more, names that were seen often or over time stay, and all else of that place is `{id}`, until it
//! has come often and over time as well. Only paths that exist are learned.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use spandrel_model::{KernelTime, Text};

use crate::route_tree::Tree;

/// Placeholder of a segment that varies.
const PLACEHOLDER: &str = "{id}";

/// Bounds of what is learned.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Templates such as `/users/{id}` that are tried first; `*` at the end takes any rest.
    pub templates: Vec<String>,
    /// Different values that one place may have before it counts as variable.
    pub max_values: usize,
    /// Services for which routes are learned.
    pub max_services: usize,
    /// Places and values learned per service.
    pub max_nodes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            templates: Vec::new(),
            max_values: 32,
            max_services: 1024,
            max_nodes: 1024,
        }
    }
}

/// Longest path that is made into a route.
const MAX_PATH: usize = 512;
/// Segments of a route; a longer path ends in `*`.
const MAX_SEGMENTS: usize = 12;

/// What tells one service from another here: its cgroup and the port it listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceKey {
    pub(crate) cgroup: u64,
    pub(crate) port: u16,
}

/// A route's template, and the name of the spans of one method there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) template: Text,
    pub(crate) name: Text,
}

impl Route {
    fn new(template: Text, prefix: &str) -> Self {
        let name = [prefix, " ", &template].concat().into();
        Self { template, name }
    }
}

/// What an answer says of a path, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// The path exists: see [`shows_a_route`].
    pub(crate) exists: bool,
    pub(crate) time: KernelTime,
}

/// Whether an answer with this status shows that the path is one of the service's. Refusals, redirects and what a
/// server answers without looking at the path show nothing: a scanner gets them for any path.
pub(crate) fn shows_a_route(status: u16) -> bool {
    match status {
        101 | 200..=299 | 304 => true,
        // Its handler has looked at the request.
        409 | 412 | 422 | 428 => true,
        501 => false,
        500..=599 => true,
        _ => false,
    }
}

/// Texts of routes that are kept for reuse, in bytes, for all services together.
const MAX_KEPT: usize = 1024 * 1024;

/// The routes of all services.
#[derive(Debug)]
pub(crate) struct Routes {
    settings: Settings,
    services: HashMap<ServiceKey, Tree, FixedState>,
    /// Bytes of the texts that the trees keep.
    kept: usize,
    /// Counts the paths.
    clock: u64,
    /// Memory for the template that is put together.
    scratch: String,
}

impl Routes {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            services: HashMap::default(),
            kept: 0,
            clock: 0,
            scratch: String::new(),
        }
    }

    /// The route of a path, where it is known or can be learned. The spans' names begin with `prefix`.
    pub(crate) fn route(
        &mut self,
        service: ServiceKey,
        prefix: &Text,
        path: &str,
        evidence: Evidence,
    ) -> Option<Route> {
        if !path.starts_with('/') || path.len() > MAX_PATH {
            return None;
        }
        for template in &self.settings.templates {
            if matches(template, path) {
                return Some(Route::new(Text::copied(template), prefix));
            }
        }
        if evidence.exists && !self.services.contains_key(&service) {
            self.add_service(service);
        }
        self.clock += 1;
        let tree = self.services.get_mut(&service)?;
        tree.last_used = self.clock;
        let before = tree.kept;
        let found = walk(tree, path, evidence, &self.settings, &mut self.scratch);
        self.kept = self.kept + tree.kept - before;
        let at = found?;
        if let Some(known) = tree.route(at, prefix, &self.scratch) {
            return Some(known);
        }
        let route = Route::new(Text::copied(&self.scratch), prefix);
        self.kept += tree.keep(at, prefix, route.clone());
        while self.kept > MAX_KEPT {
            let most = self.services.values_mut().max_by_key(|tree| tree.kept);
            let Some(most) = most.filter(|tree| tree.kept > 0) else {
                break;
            };
            self.kept -= most.kept;
            most.let_go();
        }
        Some(route)
    }

    /// Each container that starts anew is another service: the one that was asked about the longest ago makes room.
    fn add_service(&mut self, service: ServiceKey) {
        while self.services.len() >= self.settings.max_services.max(1) {
            let oldest = self.services.iter().min_by_key(|(_, tree)| tree.last_used);
            let Some((&oldest, _)) = oldest else {
                break;
            };
            if let Some(tree) = self.services.remove(&oldest) {
                self.kept -= tree.kept;
            }
        }
        self.services.insert(service, Tree::new());
    }
}

/// Puts the template of a path together; the node where it ends.
fn walk(
    tree: &mut Tree,
    path: &str,
    evidence: Evidence,
    settings: &Settings,
    template: &mut String,
) -> Option<usize> {
    if evidence.exists {
        tree.make_room(settings.max_nodes, MAX_SEGMENTS);
    }
    template.clear();
    let mut at = Tree::ROOT;
    let mut rest = path.get(1..);
    let mut count = 0;
    while let Some(text) = rest {
        let end = memchr::memchr(b'/', text.as_bytes()).unwrap_or(text.len());
        let (segment, after) = text.split_at(end);
        rest = after.get(1..);
        template.push('/');
        if count == MAX_SEGMENTS {
            template.push('*');
            break;
        }
        count += 1;
        if segment.is_empty() {
            continue;
        }
        let (child, name) = if evidence.exists {
            tree.learn(at, segment, evidence.time, settings)?
        } else {
            tree.find(at, segment)?
        };
        template.push_str(if name { segment } else { PLACEHOLDER });
        at = child;
    }
    Some(at)
}

fn matches(template: &str, path: &str) -> bool {
    let mut wanted = template.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => return true,
            (Some(pattern), Some(segment)) => {
                let variable = pattern.starts_with('{') && pattern.ends_with('}');
                let fits = pattern == segment || variable && !segment.is_empty();
                if !fits {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether a segment looks like a value and not like a name.
pub(crate) fn is_identifier(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    if bytes.len() > 40 {
        return true;
    }
    let (mut digits, mut letters, mut beyond_hex, mut dots) = (0, 0, 0, 0);
    for byte in bytes {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'f' | b'A'..=b'F' => letters += 1,
            b'g'..=b'z' | b'G'..=b'Z' => {
                letters += 1;
                beyond_hex += 1;
            }
            b'-' => {}
            b'.' | b'_' | b':' => {
                beyond_hex += 1;
                dots += u32::from(*byte == b'.');
            }
            _ => return true,
        }
    }
    // `v1` and `2fa` are names; numbers, dates, UUIDs and hashes are not.
    let number = digits > 0 && letters == 0;
    let hex = bytes.len() >= 8 && digits > 0 && beyond_hex == 0;
    let random = bytes.len() >= 16 && digits >= 4 && dots == 0;
    number || hex || random
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
