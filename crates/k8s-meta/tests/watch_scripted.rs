//! The watch against an API server that misbehaves as the script says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spandrel_k8s_meta::watch::{Change, Counters, Reason, Scope, Settings, State, cluster_uid};
use support::listener::{Listener, node, settings};
use support::scripted::{
    Reply, Server, Step, added, bookmark, deleted, error, list, list_end, modified, pod, status,
    stream,
};
use tempfile::NamedTempFile;

/// A token file and settings that use it.
fn own_node(server: &Server) -> (NamedTempFile, Settings) {
    let token = NamedTempFile::new().unwrap();
    fs::write(token.path(), "first").unwrap();
    let settings = settings(&server.url(), token.path(), node("node-a"));
    (token, settings)
}

/// Two pods as a stream, and then these steps.
fn two_pods(then: impl IntoIterator<Item = Step>) -> Reply {
    let list = [added("a", "3"), added("b", "5"), list_end("7")];
    stream(list.into_iter().chain(then))
}

#[tokio::test]
async fn one_request_for_the_pods_of_the_own_node_lists_and_watches() {
    let script = [modified("a", "8"), deleted("b", "9"), Step::Hold];
    let server = Server::script([two_pods(script)]).await;
    let (_token, settings) = own_node(&server);
    let mut listener = Listener::start(settings);

    assert_eq!(listener.list().await, ["a", "b"]);
    assert_eq!(listener.applied().await.metadata.resource_version, "8");
    let Change::Delete(gone) = listener.next().await else {
        panic!("b is deleted")
    };
    assert_eq!(
        (gone.metadata.name.as_str(), gone.metadata.uid.as_str()),
        ("b", "uid-b")
    );

    let asked = server.asked();
    let [request] = asked.as_slice() else {
        panic!("{asked:#?}")
    };
    assert_eq!(request.path, "/api/v1/pods");
    assert_eq!(
        request.parameter("fieldSelector"),
        Some("spec.nodeName%3Dnode-a")
    );
    assert_eq!(request.parameter("sendInitialEvents"), Some("true"));
    assert_eq!(request.parameter("allowWatchBookmarks"), Some("true"));
    assert_eq!(request.parameter("resourceVersion"), Some("0"));
    assert_eq!(request.token, "Bearer first");
    let figures = listener.counters.figures();
    assert_eq!(
        (
            figures.watches,
            figures.lists,
            figures.relists,
            figures.events
        ),
        (1, 0, 1, 4)
    );
    assert!(figures.bytes > 1000);
    assert_eq!(*listener.state.borrow(), State::Current);
}

#[tokio::test]
async fn without_streamed_lists_one_list_from_the_cache_and_a_watch_from_there() {
    for code in [400, 422] {
        let server = Server::script([
            status(code, "resourceVersionMatch is forbidden for watch"),
            list("7", None, &[pod("a", "3"), pod("b", "5")]),
            stream([added("c", "8"), Step::Hold]),
        ])
        .await;
        let (_token, settings) = own_node(&server);
        let mut listener = Listener::start(settings);

        assert_eq!(listener.list().await, ["a", "b"]);
        assert_eq!(listener.applied().await.metadata.name, "c");

        let asked = server.asked();
        assert_eq!(asked.len(), 3, "{asked:#?}");
        assert!(
            asked
                .iter()
                .all(|one| one.query.contains("fieldSelector=spec.nodeName%3Dnode-a"))
        );
        assert!(!asked[1].is_watch());
        assert_eq!(
            asked[1].parameter("resourceVersion"),
            Some("0"),
            "from the cache"
        );
        assert_eq!(
            asked[1].parameter("limit"),
            None,
            "a limit would make it a read from etcd"
        );
        assert_eq!(asked[2].parameter("resourceVersion"), Some("7"));
        assert_eq!(asked[2].parameter("sendInitialEvents"), None);
        assert_eq!(listener.counters.figures().failed(Reason::Unsupported), 1);
    }
}

#[tokio::test]
async fn gone_leads_to_a_new_list_whether_it_is_a_status_or_an_event() {
    let in_stream = vec![two_pods([error(410)]), two_pods([Step::Hold])];
    // The watch ends, and the next one begins with 410.
    let as_status = vec![two_pods([]), status(410, "too old"), two_pods([Step::Hold])];
    for script in [in_stream, as_status] {
        let requests = script.len();
        let server = Server::script(script).await;
        let (_token, settings) = own_node(&server);
        let mut listener = Listener::start(settings);
        assert_eq!(listener.list().await, ["a", "b"]);
        assert_eq!(listener.next_failure().await.reason, Reason::Gone);
        assert_eq!(listener.list().await, ["a", "b"]);
        assert_eq!(server.asked().len(), requests);
        assert_eq!(listener.counters.figures().relists, 2);
    }
}

#[tokio::test]
async fn forbidden_says_which_rule_is_missing_and_ends_when_it_is_there() {
    let said = r#"pods is forbidden: User "system:serviceaccount:spandrel:spandrel" cannot watch resource "pods" in API group "" at the cluster scope"#;
    let server =
        Server::script([status(403, said), status(403, said), two_pods([Step::Hold])]).await;
    let (_token, settings) = own_node(&server);
    let mut listener = Listener::start(settings);

    for _ in 0..2 {
        let failure = listener.next_failure().await;
        assert_eq!(failure.reason, Reason::Forbidden);
        assert!(
            failure
                .message
                .contains("ServiceAccount spandrel in namespace spandrel needs"),
            "{failure}"
        );
        assert!(failure.message.contains("verbs [list, watch]"), "{failure}");
    }
    assert_eq!(listener.list().await, ["a", "b"]);
    assert_eq!(listener.counters.figures().failed(Reason::Forbidden), 2);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_rotated_token_is_read_again_after_401() {
    let token = NamedTempFile::new().unwrap();
    fs::write(token.path(), "old").unwrap();
    let path = token.path().to_owned();
    let server = Server::start(move |asked| {
        if asked.token == "Bearer new" {
            return two_pods([Step::Hold]);
        }
        fs::write(&path, "new").unwrap();
        status(401, "Unauthorized")
    })
    .await;
    let mut listener = Listener::start(settings(&server.url(), token.path(), node("node-a")));

    assert_eq!(listener.next_failure().await.reason, Reason::Unauthorized);
    assert_eq!(listener.list().await, ["a", "b"]);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_list_that_does_not_come_is_given_up_and_then_asked_for_in_one_piece() {
    let slow = || stream([added("a", "3"), Step::Hold]);
    let server = Server::script([slow(), slow(), list("7", None, &[pod("a", "3")])]).await;
    let (_token, mut settings) = own_node(&server);
    settings.list_timeout = Duration::from_millis(300);
    let mut listener = Listener::start(settings);

    assert_eq!(listener.list().await, ["a"]);
    let asked = server.asked();
    assert!(asked[0].is_watch() && asked[1].is_watch() && !asked[2].is_watch());
    assert_eq!(listener.counters.figures().failed(Reason::Timeout), 2);
}

#[tokio::test]
async fn a_watch_that_breaks_within_a_line_goes_on_where_it_was() {
    let half = Step::Send(r#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"na"#.into());
    let server = Server::script([
        two_pods([added("c", "8"), half, Step::Break]),
        stream([added("d", "9"), Step::Hold]),
    ])
    .await;
    let (_token, settings) = own_node(&server);
    let mut listener = Listener::start(settings);

    assert_eq!(listener.list().await, ["a", "b"]);
    assert_eq!(listener.applied().await.metadata.name, "c");
    assert_eq!(listener.applied().await.metadata.name, "d");
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "no new list: {asked:#?}");
    assert_eq!(asked[1].parameter("resourceVersion"), Some("8"));
    assert_eq!(asked[1].parameter("sendInitialEvents"), None);
}

#[tokio::test]
async fn a_list_that_breaks_off_is_void() {
    let server = Server::script([
        stream([added("old", "3"), Step::Break]),
        two_pods([Step::Hold]),
    ])
    .await;
    let (_token, settings) = own_node(&server);
    let mut listener = Listener::start(settings);
    assert_eq!(listener.next().await, Change::ListBegan);
    assert_eq!(listener.applied().await.metadata.name, "old");
    assert_eq!(listener.next_good().await, Change::ListBegan);
    assert_eq!(listener.applied().await.metadata.name, "a");
}

#[tokio::test]
async fn an_object_that_cannot_be_read_costs_only_itself() {
    let broken =
        Step::Send("{\"type\":\"MODIFIED\",\"object\":{\"metadata\":5}}\nnot JSON\n".into());
    let server = Server::script([two_pods([broken, added("c", "8"), Step::Hold])]).await;
    let (_token, settings) = own_node(&server);
    let mut listener = Listener::start(settings);
    assert_eq!(listener.list().await, ["a", "b"]);
    assert_eq!(listener.next_failure().await.reason, Reason::Malformed);
    assert_eq!(listener.applied().await.metadata.name, "c");
    assert_eq!(listener.counters.figures().failed(Reason::Malformed), 2);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn an_object_beyond_the_limit_is_not_read() {
    let endless = (0..40).map(|_| Step::Send("x".repeat(1000).into()));
    let server = Server::script([two_pods(endless), stream([added("c", "8"), Step::Hold])]).await;
    let (_token, mut settings) = own_node(&server);
    settings.max_object_bytes = 20_000;
    let mut listener = Listener::start(settings);
    assert_eq!(listener.list().await, ["a", "b"]);
    assert_eq!(listener.next_failure().await.reason, Reason::TooLarge);
    assert_eq!(listener.applied().await.metadata.name, "c");
}

#[tokio::test]
async fn bookmarks_alone_move_the_place_to_go_on_from() {
    let server = Server::script([
        two_pods([bookmark("50"), bookmark("60")]),
        stream([added("c", "61"), Step::Hold]),
    ])
    .await;
    let (_token, settings) = own_node(&server);
    let mut listener = Listener::start(settings);
    assert_eq!(listener.list().await, ["a", "b"]);
    assert_eq!(listener.applied().await.metadata.name, "c");
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].parameter("resourceVersion"), Some("60"));
}

#[tokio::test]
async fn an_api_server_that_is_away_leaves_what_is_known_stale_since_one_moment() {
    let mut server = Server::script([
        two_pods([Step::Hold]),
        stream([added("c", "8"), Step::Hold]),
    ])
    .await;
    let (_token, settings) = own_node(&server);
    let mut listener = Listener::start(settings);
    assert_eq!(listener.list().await, ["a", "b"]);

    server.stop().await;
    let stale = |state: &State| matches!(state, State::Stale { .. });
    let State::Stale { since, .. } = listener.state_is("stale", stale).await else {
        panic!("it is stale")
    };
    for _ in 0..4 {
        assert_eq!(listener.next_failure().await.reason, Reason::Unreachable);
    }
    let later = listener.state.borrow().clone();
    assert!(
        matches!(later, State::Stale { since: still, .. } if still == since),
        "{later:?}"
    );

    server.restart().await;
    assert_eq!(listener.applied().await.metadata.name, "c");
    listener
        .state_is("current again", |state| *state == State::Current)
        .await;
}

#[tokio::test]
async fn a_hundred_thousand_pods_come_in_pages_and_nothing_is_asked_twice() {
    const PODS: usize = 100_000;
    const PAGE: usize = 500;
    let server = Server::start(|asked| {
        if asked.parameter("sendInitialEvents").is_some() {
            return status(422, "sendInitialEvents is forbidden for watch");
        }
        if asked.is_watch() {
            return stream([Step::Hold]);
        }
        let own = asked.parameter("fieldSelector").is_some();
        let limit = asked
            .parameter("limit")
            .map_or(usize::MAX, |limit| limit.parse().unwrap());
        let from = asked
            .parameter("continue")
            .map_or(0, |from| from.parse().unwrap());
        let end = if own { 30 } else { PODS.min(from + limit) };
        let pods: Vec<_> = (from..end)
            .map(|at| pod(&format!("pod-{at}"), "3"))
            .collect();
        let next = (!own && end < PODS).then(|| end.to_string());
        list("7", next.as_deref(), &pods)
    })
    .await;

    let (token, own) = own_node(&server);
    let mut listener = Listener::start(own);
    assert_eq!(listener.list().await.len(), 30);
    let asked = server.asked_times(3).await;
    assert_eq!(
        asked.len(),
        3,
        "the refused stream, a list, a watch: {asked:#?}"
    );
    drop(listener);

    let all = settings(&server.url(), token.path(), Scope::Cluster);
    let mut listener = Listener::start(all);
    assert_eq!(listener.list().await.len(), PODS);
    let asked = server.asked_times(3 + PODS / PAGE + 2).await;
    assert_eq!(asked.len(), 3 + PODS / PAGE + 2);
    assert_eq!(listener.counters.figures().lists, (PODS / PAGE) as u64);
}

#[tokio::test]
async fn the_uid_of_the_cluster_is_that_of_kube_system() {
    let body = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "kube-system", "uid": "u-1"}});
    let server = Server::script([
        status(503, "starting"),
        stream([Step::Send(body.to_string().into())]),
    ])
    .await;
    let (_token, settings) = own_node(&server);
    let counters = Arc::new(Counters::default());
    assert_eq!(
        cluster_uid(&settings, &counters).await.as_deref(),
        Some("u-1")
    );
    assert_eq!(server.asked()[1].path, "/api/v1/namespaces/kube-system");
    assert_eq!(counters.figures().failed(Reason::Server), 1);
}

#[tokio::test]
async fn without_the_right_to_it_the_uid_of_the_cluster_is_left_out() {
    let server = Server::script([status(403, "no")]).await;
    let (_token, settings) = own_node(&server);
    let counters = Arc::new(Counters::default());
    assert_eq!(cluster_uid(&settings, &counters).await, None);
    assert_eq!(counters.figures().failed(Reason::Forbidden), 1);
    assert_eq!(server.asked().len(), 1);
}
