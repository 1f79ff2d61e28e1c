//! How the operator's command signs in and reaches AWS: profiles, denied credentials, proxies, private authorities.

mod support {
    pub mod command;
}

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use support::command::{Account, POLICY, command, error, in_front_of, moto_server, told};

/// A file that ends with the test.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("force-mfa-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_profile_with_mfa_serial_is_explained() {
    let profiles = TemporaryFile::new(
        "config",
        "[profile ops]\nmfa_serial=arn:aws:iam::123456789012:mfa/ops\n\
         [profile admin]\nrole_arn=arn:aws:iam::123456789012:role/Admin\nsource_profile=ops\n\
         mfa_serial=arn:aws:iam::123456789012:mfa/ops\n\
         [profile audit]\nrole_arn=arn:aws:iam::123456789012:role/Audit\nsource_profile=ops\n\
         [profile plain]\nregion=us-east-1\n",
    );
    for (profile, with_mfa) in [("admin", Some("admin")), ("ops", Some("ops")), ("audit", Some("ops")), ("plain", None)]
    {
        let run = told(
            command("http://127.0.0.1:9", &["status", "--profile", profile])
                .env("AWS_CONFIG_FILE", profiles.path())
                .env_remove("AWS_ACCESS_KEY_ID"),
        );
        run.ends(3, "no AWS credentials");
        let way = "credential_process = aws configure export-credentials --profile";
        match with_mfa {
            Some(name) => {
                run.ends(3, &format!("The profile {name} has mfa_serial, but force-mfa does not ask for MFA codes"));
                run.ends(3, &format!("{way} {name} --format process"));
                run.ends(3, "aws sts get-session-token");
            }
            None => assert!(!run.err.contains("mfa_serial") && run.err.contains("aws sso login"), "{run:?}"),
        }
    }
}

#[test]
fn a_deny_of_the_callers_own_policy_asks_for_mfa_first() {
    let account = Account::new().with_policy();
    let denied = |why: &'static str| {
        in_front_of(&account, move |_, body| {
            let message = format!("User: arn:aws:iam::123456789012:user/ops is not authorized {why}");
            let is_meant = body.contains("Action=GenerateCredentialReport");
            is_meant.then(|| error("AccessDenied", &message).replace("400", "403"))
        })
    };
    let status = ["status", "--no-stack"];
    let by_own_policy = denied("with an explicit deny in an identity-based policy");
    let run = told(&mut command(&by_own_policy, &status));
    run.ends(3, "The likeliest cause is the policy of force-mfa itself: it denies this to a session without MFA");
    assert!(!run.err.contains("Allow iam:"), "{run:?}");
    for other in ["because no identity-based policy allows it", "with an explicit deny in a service control policy"] {
        let run = told(&mut command(&denied(other), &status));
        run.ends(3, "Allow iam:GenerateCredentialReport to the identity");
    }
}

/// A certificate authority and a server's certificate for `aws.example.com`, with its key, in three files.
fn certificates() -> [TemporaryFile; 3] {
    const PROGRAM: &str = r#"
import datetime, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
now = datetime.datetime.now(datetime.timezone.utc)
name = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
def certificate(subject, key, issuer, issuer_key, extension):
    builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    signed = builder.add_extension(extension, critical=False).sign(issuer_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)
authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ca = x509.BasicConstraints(ca=True, path_length=None)
names = x509.SubjectAlternativeName([x509.DNSName("aws.example.com")])
open(sys.argv[1], "wb").write(certificate("authority", authority_key, "authority", authority_key, ca))
open(sys.argv[2], "wb").write(certificate("server", key, "authority", authority_key, names))
encoding, no_encryption = serialization.Encoding.PEM, serialization.NoEncryption()
open(sys.argv[3], "wb").write(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_encryption))
"#;
    let files = ["authority.pem", "server.pem", "key.pem"].map(|name| TemporaryFile::new(name, ""));
    let made = Command::new(moto_server().with_file_name("python"))
        .args(["-c", PROGRAM])
        .args(files.iter().map(TemporaryFile::path))
        .status();
    assert!(made.unwrap().success(), "moto's Python environment has cryptography");
    files
}

/// A proxy on loopback that connects every tunnel to this port; keeps the requests that it gets.
fn tunnel_to(port: u16) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                let mut client = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if client.read_line(&mut head).unwrap_or_default() == 0 {
                        return;
                    }
                }
                kept.lock().unwrap().push(head);
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut from_server, mut to_client) = (server.try_clone().unwrap(), stream.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from_server, &mut to_client);
                    let _ = to_client.shutdown(std::net::Shutdown::Both);
                });
                let _ = std::io::copy(&mut client, &mut &server);
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (proxy, requests)
}

#[test]
fn proxy_and_private_authority_are_used_for_every_service() {
    let [authority, server, key] = certificates();
    let account = Account::with(&["--ssl-cert", server.path(), "--ssl-key", key.path()]);
    let (proxy, requests) = tunnel_to(account.port);
    let with_password = format!("http://ops:secret@{proxy}");
    // The name has no address here, so that only the proxy reaches it.
    let url = "https://aws.example.com";
    let mut run = command(url, &["status"]);
    run.env("HTTPS_PROXY", &with_password).env("AWS_CA_BUNDLE", authority.path());
    // STS, CloudFormation and IAM were reached: there is no policy yet.
    told(&mut run).ends(1, "neither a stack nor a policy named force-mfa");
    let tunnels = std::mem::take(&mut *requests.lock().unwrap());
    assert!(!tunnels.is_empty());
    for tunnel in tunnels {
        assert!(tunnel.starts_with("CONNECT aws.example.com:443 HTTP/1.1\r\n"), "{tunnel}");
        // "ops:secret" in base64.
        let password = tunnel.lines().find_map(|line| line.split_once(": Basic ")).map(|(_, password)| password);
        assert_eq!(password, Some("b3BzOnNlY3JldA=="), "{tunnel}");
    }

    // SSL_CERT_FILE names authorities too, and AWS_CA_BUNDLE goes before it.
    let mut run = command(url, &["status"]);
    run.env("HTTPS_PROXY", &with_password).env("SSL_CERT_FILE", authority.path());
    told(&mut run).ends(1, "neither a stack nor a policy named force-mfa");
    run.env("AWS_CA_BUNDLE", server.path());
    told(&mut run).ends(1, "the certificate authority (AWS_CA_BUNDLE)");

    // Without the authority, nobody is trusted; with NO_PROXY, nobody is reached.
    requests.lock().unwrap().clear();
    let mut run = command(url, &["status"]);
    run.env("HTTPS_PROXY", &with_password).env("AWS_CA_BUNDLE", authority.path()).env("NO_PROXY", "example.com");
    told(&mut run).ends(1, "sts:GetCallerIdentity: no usable answer");
    assert_eq!(*requests.lock().unwrap(), Vec::<String>::new());

    let profiles = TemporaryFile::new("profiles", &format!("[profile ops]\nca_bundle={}\n", authority.path()));
    let mut run = command(url, &["status"]);
    run.env("HTTPS_PROXY", &with_password).env("AWS_CONFIG_FILE", profiles.path()).env("AWS_PROFILE", "ops");
    told(&mut run).ends(1, "neither a stack nor a policy named force-mfa");
}

#[test]
fn http_proxy_is_used_for_plain_endpoints() {
    let account = Account::new().with_policy();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let proxy = in_front_of(&account, move |head, _| {
        kept.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
        None
    });
    let mut run = command("http://aws.example.com", &["status", "--no-stack", "--policy-arn", POLICY]);
    told(run.env("HTTP_PROXY", &proxy)).ends(0, "");
    let heads = heads.lock().unwrap();
    assert!(heads.len() > 3 && heads.iter().all(|head| head == "POST http://aws.example.com/ HTTP/1.1"), "{heads:?}");
}

#[test]
fn an_unusable_ca_bundle_is_named() {
    let no_pem = TemporaryFile::new("no.pem", "no certificate");
    let broken = TemporaryFile::new("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (path, why) in [
        ("/nowhere/ca.pem", "No such file"),
        (no_pem.path(), "it has no certificate in PEM format"),
        (broken.path(), "one of its certificates cannot be used"),
    ] {
        let run = told(command("https://127.0.0.1:9", &["status"]).env("AWS_CA_BUNDLE", path));
        run.ends(2, &format!("AWS_CA_BUNDLE is {path}: {why}"));
    }
}
