import { App, Stack } from "aws-cdk-lib";
import { ForceMfa } from "../lib/force-mfa.js";

const stack = new Stack(new App(), "force-mfa", { env: { region: "us-east-1" } });
new ForceMfa(stack, "ForceMfa", {
  code: { zip: process.env.FORCE_MFA_ZIP ?? "../../dist/force-mfa-arm64.zip" },
  exemptPaths: "/service/",
  alarmEmail: "security@example.com",
});
