// kafka_member.mjs ADDRESS GROUP: one member of a group, with kafkajs. Commits after each batch, itself.
// Says, a line of JSON each: joined; read and committed, with p and offsets. SIGTERM: it leaves.
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { Kafka, logLevel } = createRequire(path.join(root, "gateway/web/package.json"))("kafkajs");
const [address, groupId] = process.argv.slice(2);
const topic = "loquat.records";
const say = (what, more = {}) => process.stdout.write(JSON.stringify({ what, ...more }) + "\n");

const kafka = new Kafka({
	brokers: [address],
	sasl: { mechanism: "plain", username: "any", password: process.env.LOQUAT_TOKEN_JOBS },
	retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 1000 },
	logLevel: process.env.KAFKA_LOG ? logLevel.DEBUG : logLevel.NOTHING,
});
const consumer = kafka.consumer({
	groupId,
	sessionTimeout: 3000,
	rebalanceTimeout: 5000,
	heartbeatInterval: 200,
	maxWaitTimeInMs: 300,
	maxBytesPerPartition: 8192, // several pages of each
});
consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => say("joined", { assigned: payload.memberAssignment[topic] }));
consumer.on(consumer.events.CRASH, ({ payload }) => say("crash", { why: String(payload.error), restart: payload.restart }));
process.once("SIGTERM", async () => {
	await consumer.disconnect();
	process.exit(0);
});

await consumer.connect();
await consumer.subscribe({ topics: [topic], fromBeginning: true });
await consumer.run({
	autoCommit: false,
	eachBatchAutoResolve: false,
	eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
		if (!isRunning() || isStale()) return;
		const offsets = batch.messages.map(m => Number(m.offset));
		for (const message of batch.messages) {
			const record = JSON.parse(message.value.toString());
			if (message.key.toString() !== record.c) throw new Error(`key ${message.key}: ${message.value}`);
		}
		say("read", { p: batch.partition, offsets });
		const next = String(offsets.at(-1) + 1);
		try {
			await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }]);
			say("committed", { p: batch.partition, offsets });
			resolveOffset(batch.lastOffset());
		} catch (error) {
			say("refused", { why: String(error) }); // by who does not know it any more: it joins again
		}
		await heartbeat();
	},
});
