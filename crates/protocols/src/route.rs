//! Route templates told from paths, with a bound on how many there can be.
//!
//! A segment that looks like an identifier becomes `{id}` at once. Of the others a service may have a bounded
//! number at each place; from then on all of that place are `{id}`.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use spandrel_model::Text;

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

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize, FixedState>,
    placeholder: Option<usize>,
    /// Too many values have been seen here.
    variable: bool,
    /// The routes that end here, by what their names begin with.
    routes: SmallVec<[(Text, Route); 1]>,
}

/// Texts of routes that are kept for reuse, in bytes, for all services together.
const MAX_KEPT: usize = 1024 * 1024;

#[derive(Debug)]
struct Tree(Vec<Node>);

impl Tree {
    fn add(&mut self, max_nodes: usize) -> Option<usize> {
        (self.0.len() < max_nodes).then(|| {
            self.0.push(Node::default());
            self.0.len() - 1
        })
    }

    /// The node below `at` for a segment, and whether the segment stands there as it is.
    fn step(&mut self, at: usize, segment: &str, settings: &Settings) -> Option<(usize, bool)> {
        let node = self.0.get(at)?;
        if !node.variable && !is_identifier(segment) {
            if let Some(&child) = node.children.get(segment) {
                return Some((child, true));
            }
            if node.children.len() < settings.max_values {
                if let Some(child) = self.add(settings.max_nodes) {
                    self.0.get_mut(at)?.children.insert(segment.into(), child);
                    return Some((child, true));
                }
            } else {
                let node = self.0.get_mut(at)?;
                node.variable = true;
                node.children = HashMap::default();
            }
        }
        if let Some(child) = self.0.get(at)?.placeholder {
            return Some((child, false));
        }
        let child = self.add(settings.max_nodes)?;
        self.0.get_mut(at)?.placeholder = Some(child);
        Some((child, false))
    }
}

/// The routes of all services.
#[derive(Debug)]
pub(crate) struct Routes {
    settings: Settings,
    services: HashMap<ServiceKey, Tree, FixedState>,
    /// Bytes of the texts that the trees keep.
    kept: usize,
    /// Memory for the template that is put together.
    scratch: String,
}

impl Routes {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            services: HashMap::default(),
            kept: 0,
            scratch: String::new(),
        }
    }

    /// The route of a path, where it can be told within the bounds. The spans' names begin with `prefix`.
    pub(crate) fn route(
        &mut self,
        service: ServiceKey,
        prefix: &Text,
        path: &str,
    ) -> Option<Route> {
        if !path.starts_with('/') || path.len() > MAX_PATH {
            return None;
        }
        for template in &self.settings.templates {
            if matches(template, path) {
                return Some(Route::new(Text::copied(template), prefix));
            }
        }
        let full = self.services.len() >= self.settings.max_services;
        if full && !self.services.contains_key(&service) {
            return None;
        }
        let tree = self
            .services
            .entry(service)
            .or_insert_with(|| Tree(vec![Node::default()]));
        let route = &mut self.scratch;
        route.clear();
        let mut at = 0;
        let mut rest = path.get(1..);
        let mut count = 0;
        while let Some(text) = rest {
            let end = memchr::memchr(b'/', text.as_bytes()).unwrap_or(text.len());
            let (segment, after) = text.split_at(end);
            rest = after.get(1..);
            route.push('/');
            if count == MAX_SEGMENTS {
                route.push('*');
                break;
            }
            count += 1;
            if segment.is_empty() {
                continue;
            }
            let (child, literal) = tree.step(at, segment, &self.settings)?;
            route.push_str(if literal { segment } else { PLACEHOLDER });
            at = child;
        }
        let node = tree.0.get_mut(at)?;
        let known = node
            .routes
            .iter()
            .find(|(other, known)| *other == *prefix && known.template == *route.as_str());
        if let Some((_, known)) = known {
            return Some(known.clone());
        }
        let found = Route::new(Text::copied(route), prefix);
        let cost = found.template.len() + found.name.len() + size_of::<(Text, Route)>();
        if self.kept + cost <= MAX_KEPT {
            self.kept += cost;
            node.routes.push((prefix.clone(), found.clone()));
        }
        Some(found)
    }
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
fn is_identifier(segment: &str) -> bool {
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
mod tests {
    use super::*;

    const SERVICE: ServiceKey = ServiceKey {
        cgroup: 1,
        port: 80,
    };

    fn template(routes: &mut Routes, service: ServiceKey, path: &str) -> Option<String> {
        let route = routes.route(service, &Text::from_static("GET"), path)?;
        assert_eq!(route.name, *format!("GET {}", route.template));
        Some(route.template.to_string())
    }

    fn route(path: &str) -> Option<String> {
        template(&mut Routes::new(Settings::default()), SERVICE, path)
    }

    #[test]
    fn identifiers_become_placeholders_and_names_stay() {
        for (path, expected) in [
            ("/", "/"),
            ("/users/42/orders", "/users/{id}/orders"),
            (
                "/v1/items/3f2504e0-4f89-11d3-9a0c-0305e82c3301",
                "/v1/items/{id}",
            ),
            ("/commits/da39a3ee5e6b4b0d", "/commits/{id}"),
            ("/days/2026-11-23/", "/days/{id}/"),
            ("/a%20b/x", "/{id}/x"),
            ("/static/app.js", "/static/app.js"),
            ("/login/2fa", "/login/2fa"),
        ] {
            assert_eq!(route(path).as_deref(), Some(expected));
        }
        assert_eq!(route("*"), None);
    }

    #[test]
    fn a_place_with_too_many_values_becomes_variable() {
        let mut routes = Routes::new(Settings::default());
        let name = |number: usize| {
            let letter = |digit: usize| char::from(b'a' + digit as u8);
            format!("/u/{}{}", letter(number / 26), letter(number % 26))
        };
        let made: std::collections::BTreeSet<_> = (0..600)
            .map(|number| template(&mut routes, SERVICE, &name(number)).unwrap())
            .collect();
        assert_eq!(made.len(), Settings::default().max_values + 1);
        let variable = template(&mut routes, SERVICE, "/u/aa");
        assert_eq!(variable.as_deref(), Some("/u/{id}"));
    }

    #[test]
    fn what_is_learned_is_bounded_however_wild_the_paths() {
        let settings = Settings {
            max_nodes: 50,
            max_services: 2,
            ..Settings::default()
        };
        let mut routes = Routes::new(settings);
        for service in 0..10 {
            for first in "abcdefghijkl".chars() {
                for second in "abcdefghijkl".chars() {
                    let key = ServiceKey {
                        cgroup: service,
                        port: 1,
                    };
                    template(&mut routes, key, &format!("/{first}/{second}"));
                }
            }
        }
        assert_eq!(routes.services.len(), 2);
        assert!(routes.services.values().all(|tree| tree.0.len() <= 50));
    }

    #[test]
    fn what_is_kept_of_names_is_bounded_and_they_are_right_without_it() {
        let mut routes = Routes::new(Settings::default());
        routes.kept = MAX_KEPT - 200;
        for _ in 0..2 {
            for path in ["/a", "/a/", "/a/b", "/c/1", "//c/1"] {
                for method in ["GET", "POST"] {
                    let method = Text::from_static(method);
                    let found = routes.route(SERVICE, &method, path).unwrap();
                    let template = path.replace('1', "{id}");
                    assert_eq!(found.template, *template);
                    assert_eq!(found.name, *format!("{method} {template}"));
                }
            }
        }
        assert!(routes.kept <= MAX_KEPT);
    }

    #[test]
    fn configured_templates_come_first() {
        let settings = Settings {
            templates: vec!["/shop/{name}/cart".to_owned(), "/files/*".to_owned()],
            ..Settings::default()
        };
        let mut routes = Routes::new(settings);
        let mut route = |path| template(&mut routes, SERVICE, path).unwrap();
        assert_eq!(route("/shop/anna/cart"), "/shop/{name}/cart");
        assert_eq!(route("/files/a/b"), "/files/*");
        assert_eq!(route("/shop/anna"), "/shop/anna");
    }
}
