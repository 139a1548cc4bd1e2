"""A whole Muster client in nats-py, written from schemas/asyncapi.yaml alone: client.py URL SERVICE INSTANCE WATCHED
It vouches for SERVICE/INSTANCE, watches WATCHED, prints one JSON object a line; a line on standard input ends it."""
import asyncio, functools, hashlib, json, os, random, sys, time, nats

BASE, ENDPOINT = "muster.default.", dict(name="http", scheme="http", host="10.9.8.7", port=8080)
token = lambda name: "".join(chr(b) if b < 128 and (chr(b).isalnum() or b in b"_-") else f"%{b:02X}" for b in name.encode())
say = lambda **what: print(json.dumps(what), flush=True)

def ulid():
    number = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(number >> shift) & 31] for shift in range(125, -1, -5))
def digest(items):
    hashes = (hashlib.sha256("\0".join(map(str, item)).encode()).digest()[:16] for item in items)
    return f"{sum(int.from_bytes(one, 'big') for one in hashes) % (1 << 128):032x}"
def bucket(name):
    return functools.reduce(lambda hash, byte: ((hash ^ byte) * 0x01000193) % (1 << 32), name.encode(), 0x811C9DC5) % 64

class Agent:
    def __init__(self, nc, service, instance, ttl_ms=2000):
        self.nc, self.name, self.service, self.instance, self.ttl_ms = nc, f"py-{instance}", service, instance, ttl_ms
        self.session, self.incarnation, self.generation, self.counter, self.acked = ulid(), ulid(), 0, 0, None
    async def ask(self, subject, **body):
        return json.loads((await self.nc.request(BASE + subject, json.dumps(body).encode(), timeout=2)).data)
    async def event(self, kind, type, **data):
        self.generation += 1
        data.update(service=self.service, instance=self.instance, agent=self.name, session=self.session, incarnation=self.incarnation, generation=self.generation)
        subject = f"event.{kind}.{token(self.service)}.{token(self.instance)}.{token(self.name)}"
        return (await self.ask(subject, specversion="1.0", id=ulid(), source=f"/muster/default/agent/{token(self.name)}", type=f"io.muster.instance.{type}.v1", data=data))["seq"]
    async def register(self):
        while True:  # acknowledged is not accepted: until an answer shows this incarnation and generation
            try:
                self.acked = [None, await self.event("register", "registered", ttl_ms=self.ttl_ms, linger_ms=0, endpoints=[ENDPOINT])]
                reply = await self.ask(f"query.instance.{token(self.service)}.{token(self.instance)}", min_revision=self.acked)
                held = reply["services"][0]["instances"][0]
                if (held["incarnation"], held["generation"]) == (self.incarnation, self.generation):
                    self.acked[0] = reply["epoch"]
                    return say(registered=self.acked[1])
            except Exception as error:  # broker or registries are away, or it was refused: once more
                say(retry=type(error).__name__)
            await asyncio.sleep(random.uniform(0.1, 0.4))
    async def beat(self):
        while True:
            if self.nc.is_connected and self.acked:
                self.counter, vouched = self.counter + 1, digest([(self.service, self.instance, self.incarnation, self.generation)])
                beat = dict(v=1, session=self.session, counter=self.counter, instances=1, digest=vouched, acked=self.acked, conn=None)
                await self.nc.publish(f"{BASE}heartbeat.{token(self.name)}", json.dumps(beat).encode())
            await asyncio.sleep(self.ttl_ms / 5000)
    async def asked(self, msg):
        if msg.subject.endswith(".probe"):
            await msg.respond(json.dumps(dict(session=self.session, incarnations={f"{token(self.service)}/{token(self.instance)}": [self.incarnation, self.generation]})).encode())
        elif msg.subject.endswith(".announce"):
            self.announcing = asyncio.create_task(self.register())
            await msg.respond(json.dumps(dict(session=self.session, instances=1)).encode())

class View:
    def __init__(self, agent, service):
        self.agent, self.nc, self.service, self.list, self.revision, self.verified = agent, agent.nc, service, {}, 0, 0
        self.epoch, self.state, self.good, self.task, self.held, self.shown = None, None, None, None, [], None
    def sync(self, wait=0.0):
        self.task = self.task or asyncio.create_task(self.fetch(wait, [self.epoch, max(self.verified, self.revision)]))
    async def fetch(self, wait, seen):
        while self.task:
            await asyncio.sleep(wait)
            wait = random.uniform(0.1, 0.3)
            try:
                await self.nc.flush(2)
                reply = await self.agent.ask(f"query.service.{token(self.service)}", **(dict(min_revision=seen) if seen[0] else {}))
                found, self.epoch, self.state, self.verified = reply["services"][0], reply["epoch"], reply["state"], reply["revision"]
            except Exception:  # nobody answers yet, or `behind`
                continue
            self.list, self.revision = {held["instance"]: held["modified_revision"] for held in found["instances"]}, found["revision"]
            self.good, self.task = time.monotonic(), None
        held, self.held = self.held, []
        [self.change(change) for change in held]
        self.show()
    def change(self, change):
        if self.task or change["epoch"] != self.epoch:
            self.held = (self.held + [change])[-1000:]
            return self.sync()
        if change["revision"] <= self.revision or change["previous_revision"] != (self.revision if self.list else 0):
            return change["revision"] > self.revision and self.sync(0.5)  # a duplicate, or a gap
        self.list.pop(change["instance"], None)
        self.list.update({change["instance"]: change["revision"]} if change["value"] else {})
        self.revision = change["revision"]
        self.show(change["cause"]) if digest(self.list.items()) == change["digest"] else self.sync()
    def pulse(self, pulse):
        if pulse["epoch"] != self.epoch or (self.state, pulse["state"]) == ("recovering", "ready"):
            self.sync()
        elif pulse["from"] > self.verified or pulse["services"].get(self.service, 0) > self.revision:
            self.sync(0.5)
        elif pulse["to"] >= self.verified and pulse["head_age_ms"] <= 5000:
            self.verified, self.state, self.good = pulse["to"], pulse["state"], time.monotonic()
    def show(self, cause="resync"):
        known = self.good and self.nc.is_connected and time.monotonic() - self.good < 6 and (self.list or self.state == "ready")
        answer = ("instances" if self.list else "empty") if known else "unknown"
        if (answer, self.list) != self.shown:
            self.shown = answer, dict(self.list)
            say(answer=answer, instances=sorted(self.list), cause=cause, revision=self.revision, epoch=self.epoch)

async def main(url, service, instance, watched):
    async def back(): view.sync()
    async def away(): view.show()
    async def heard(msg): msg.data and (view.change if ".change." in msg.subject else view.pulse)(json.loads(msg.data))
    nc = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, reconnected_cb=back, disconnected_cb=away)
    agent = Agent(nc, service, instance)
    view = View(agent, watched)
    await nc.subscribe(f"{BASE}agent.{token(agent.name)}.*", cb=agent.asked)
    for subject in (f"change.{token(watched)}", f"pulse.{bucket(watched)}"):
        await nc.subscribe(BASE + subject, cb=heard)
    view.sync()
    tasks, ended = [asyncio.create_task(agent.register()), asyncio.create_task(agent.beat())], asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    while not ended.done():
        view.show()
        await asyncio.wait([ended], timeout=0.5)
    [task.cancel() for task in tasks]
    say(deregistered=await agent.event("deregister", "deregistered", reason="stopped"))
    await nc.close()

asyncio.run(main(*sys.argv[1:]))
