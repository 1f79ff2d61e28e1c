//! The HTML page of `force-mfa status --organization` in a real browser: `tests/page/check.mjs` says what must be so.
//!
//! It needs `make page-tools`, Node.js and Chromium or Chrome. Without them the test is skipped with a message, but in CI
//! (`CI=true`) it fails.

mod support {
    pub mod command;
    pub mod organization;
}

use std::path::{Path, PathBuf};
use std::process::Command;

use support::command::{command, told};
use support::organization::{Organization, in_front_of, refusal};

#[test]
fn the_page_works_in_a_browser() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let Some(browser) = browser().filter(|_| tools.join("node_modules/playwright-core").exists()) else {
        assert!(std::env::var_os("CI").is_none(), "CI must not skip this: it needs a browser and `make page-tools`");
        println!("SKIPPED: install chromium or google-chrome, and run `make page-tools`");
        return;
    };
    let mut all = Organization::small(&["dev"]);
    for name in ["refused", "closed", "forgotten", "<script>alert(1)</script>", "\"><img src=x onerror=alert(2)>"] {
        all.account(name, "root");
    }
    all.close("closed");
    for user in ["bob", "carol"] {
        all.console_user("forgotten", user, "/");
    }
    all.stack("<script>alert(1)</script>", &[("ExemptUsers", "ci-*")]);
    for user in ["alice", "ci-1"] {
        all.console_user("<script>alert(1)</script>", user, "/");
    }
    all.attach("<script>alert(1)</script>", "alice");
    all.stack("\"><img src=x onerror=alert(2)>", &[]);
    let refused = all.accounts["refused"].clone();
    let (url, _) = in_front_of(&all, move |call, _| {
        (call.action == "AssumeRole" && call.account == refused)
            .then(|| refusal("403 Forbidden", "AccessDenied", "User operator is not authorized"))
    });
    let file = std::env::temp_dir().join(format!("force-mfa-page-{}.html", std::process::id()));
    let path = file.to_str().unwrap();
    let arguments = ["status", "--organization", "--exclude-account", "123456789012", "--format", "html", "--output"];
    told(&mut command(&url, &[&arguments[..], &[path]].concat())).ends(1, "");

    let check = Command::new("node").arg(tools.join("check.mjs")).arg(browser).arg(path).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = [check.stdout, check.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(check.status.success(), "{said}");
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    names.iter().find_map(|name| std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.exists()))
}
