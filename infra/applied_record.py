"""What was applied: each rollout.json in the artifact bucket under the next number, none ever overwritten."""

import datetime
import json
from pathlib import Path


class AppliedRecord:
    """The last record. It knows what nobody can list: which accounts may have overrides (ListStackInstances does not
    show them), and which stacks the management account may have, if another account owns the StackSets."""

    def __init__(self, aws, bucket):
        self.aws, self.number, self.last = aws, 0, {}
        keys = aws.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix="rollout/") if bucket else []
        if keys:
            key = max(item["Key"] for item in keys)
            self.number = int(Path(key).stem)
            self.last = json.loads(aws.read("s3", "get_object", Bucket=bucket, Key=key)["Body"].read())

    def overridden(self):
        return set(self.last.get("overridden", []))

    def management_stacks(self):
        return set(self.last.get("management_stacks", []))

    def write(self, bucket, folder, **content):
        """Writes the next record if it says anything new."""
        if content == {key: self.last.get(key) for key in content}:
            return
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.last, self.number = content | {"at": now, "by": self.aws.caller}, self.number + 1
        file = folder / "applied-rollout.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.last, indent=2, sort_keys=True) + "\n", "utf-8")
        # S3 refuses a number that is taken: two roll-outs at the same time end here.
        key = f"rollout/{self.number:06}.json"
        self.aws.change("s3", "put_object", {"Body": file}, Bucket=bucket, Key=key, IfNoneMatch="*")
