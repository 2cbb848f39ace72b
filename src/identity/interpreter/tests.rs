//! Command lines as they are seen in the field, and the names they should give.

use proptest::prelude::*;

use super::*;

fn name(line: &str, directory: &str) -> Option<String> {
    let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let executable = arguments[0].rsplit('/').next().unwrap().to_owned();
    script_name(&executable, &arguments, Some(Path::new(directory)))
}

#[test]
fn command_lines_are_named_by_their_script_module_or_class() {
    for (line, directory, expected) in [
        ("python3 /srv/billing/worker_loop.py", "/", "worker_loop"),
        ("python3 -u -W ignore shop.py --port 80", "/srv", "shop"),
        ("python3.11 -m pkg.mod", "/", "mod"),
        ("python3 -Im http.server 8000", "/srv/files", "http"),
        ("python3 -mshop", "/", "shop"),
        ("python3 -m shop.main", "/", "shop"),
        ("python3 manage.py runserver", "/srv/crm", "crm"),
        ("python3 /app/main.py", "/", "main"),
        (
            "python3 /usr/bin/gunicorn -w 4 -b 0.0.0.0:8000 app:app",
            "/srv/shop",
            "shop",
        ),
        (
            "python3 /usr/bin/gunicorn billing.wsgi:application",
            "/srv/x",
            "billing",
        ),
        (
            "python3 /usr/bin/gunicorn -w 4 billing.wsgi",
            "/srv/x",
            "billing",
        ),
        ("python3 -m uvicorn orders.api:app --port 80", "/", "api"),
        ("python3 /usr/bin/celery -A proj worker", "/", "proj"),
        ("python3 -m flask --app hello run", "/", "hello"),
        ("node dist/server.js", "/srv/cart", "cart"),
        (
            "node --require ./trace.js --inspect=0 /srv/cart/src/index.js",
            "/",
            "cart",
        ),
        ("node api-gateway.mjs", "/srv/cart", "api-gateway"),
        (
            "node /srv/web/node_modules/.bin/next start",
            "/srv/web",
            "web",
        ),
        (
            "node /usr/lib/node_modules/npm/bin/npm-cli.js start",
            "/srv/web",
            "web",
        ),
        ("node /usr/bin/tsx src/mailer.ts", "/srv/web", "mailer"),
        (
            "java -Xmx1g -jar /opt/shop-1.2.3-SNAPSHOT.jar --server.port=80",
            "/",
            "shop",
        ),
        ("java -cp a.jar:b.jar com.example.Orders", "/", "Orders"),
        ("java -cp a.jar com.example.orders.Main", "/", "orders"),
        (
            "java -cp /opt/tomcat org.apache.catalina.startup.Bootstrap start",
            "/",
            "catalina",
        ),
        (
            "java -cp a org.springframework.boot.loader.JarLauncher",
            "/srv/pets",
            "pets",
        ),
        ("ruby /usr/bin/bundle exec puma", "/srv/blog", "blog"),
        ("ruby -I lib jobs.rb", "/", "jobs"),
        (
            "php -d memory_limit=1G artisan serve",
            "/srv/forum",
            "forum",
        ),
        ("php -f /srv/feed/index.php", "/", "feed"),
        ("perl -w /usr/bin/munin-node", "/", "munin-node"),
        ("bash -x /opt/sync.sh", "/", "sync"),
        ("deno run --allow-net main.ts", "/srv/chat", "chat"),
        ("bun run src/index.ts", "/srv/ledger", "ledger"),
        ("bun.exe mailer.ts", "/srv/ledger", "mailer"),
        (
            "python3 /usr/bin/hypercorn app:x -b 0.0.0.0:80",
            "/srv/shop",
            "shop",
        ),
        ("dotnet Shop.Web.dll", "/app", "Shop.Web"),
    ] {
        assert_eq!(name(line, directory).as_deref(), Some(expected), "{line}");
    }
}

#[test]
fn an_interpreter_without_a_script_has_only_its_own_name() {
    for line in [
        "python3",
        "python3 -c print()",
        "python3 -",
        "node -e 1",
        "bash",
        "bash -c ls",
        "sh -ec ls",
        "perl -e 1",
        "java -version",
    ] {
        assert_eq!(name(line, "/srv/shop"), None, "{line}");
    }
}

#[test]
fn native_programs_are_not_interpreted() {
    for line in ["nginx -c x", "postgres", "pythonista a.py", "javac A.java"] {
        assert_eq!(name(line, "/"), None, "{line}");
    }
}

#[test]
fn a_title_over_the_command_line_is_understood() {
    for (executable, title, expected) in [
        ("python3.11", "gunicorn: worker [shop:app]", "shop"),
        ("ruby", "puma: cluster worker 0: 99 [blog]", "blog"),
        ("ruby3.1", "sidekiq 6.5.1 shop [0 of 10 busy]", "sidekiq"),
        ("node", "cart-api", "cart-api"),
    ] {
        let arguments = [title.to_owned()];
        assert_eq!(
            script_name(executable, &arguments, None).as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn only_interpreters_with_one_implementation_name_their_runtime() {
    assert_eq!(runtime("python3.11"), Some("cpython"));
    assert_eq!(runtime("pypy3"), Some("pypy"));
    assert_eq!(runtime("node"), Some("nodejs"));
    assert_eq!(runtime("bun.exe"), Some("bun"));
    assert_eq!(runtime("java"), None);
    assert_eq!(runtime("bash"), None);
}

proptest! {
    #[test]
    fn any_command_line_gives_no_name_or_one_that_is_not_empty(
        executable in "python3|java|sh|node|php|bun|dotnet|\\PC{0,5}",
        arguments in prop::collection::vec(
            "-[a-zA-Z]{0,3}|--|\\[x\\]|[a-z]{0,3}:[a-z]{0,3}|(/|[.]{1,2}/)?(main|é|gunicorn|x-1)?[.](py|jar|js)?|\\PC{0,6}",
            0..6,
        ),
        directory in "/[a-z]{0,3}/\\PC{0,4}",
    ) {
        let name = script_name(&executable, &arguments, Some(Path::new(&directory)));
        prop_assert!(name.is_none_or(|name| !name.is_empty()));
    }
}
