"""Putting the parts together: the one place that knows them all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from runtime_server.api import create_api, create_gateway
from runtime_server.builds.builds import Builds
from runtime_server.builds.names import Names
from runtime_server.builds.runs import Runs
from runtime_server.engine.base import Engine
from runtime_server.engine.building import Builder
from runtime_server.engine.discovery import socket_path
from runtime_server.engine.docker import DockerEngine
from runtime_server.engine.docker_build import DockerBuilder
from runtime_server.errors import StorageUnavailable, TooManyStreams
from runtime_server.metrics.instruments import Metrics
from runtime_server.metrics.shared import Shared, joined
from runtime_server.network.addresses import RuntimeAddresses
from runtime_server.network.firewall import Firewall
from runtime_server.network.forwarded import Forwarded
from runtime_server.network.reservations import PortReservations
from runtime_server.network.runtime_network import RuntimeNetwork
from runtime_server.network.source import SourceCheck
from runtime_server.runtimes.calls import Calls
from runtime_server.runtimes.changes import Changes
from runtime_server.runtimes.chores import Chores
from runtime_server.runtimes.execs import Execs
from runtime_server.runtimes.fetch import ImageFetch
from runtime_server.runtimes.files import Files
from runtime_server.runtimes.gateway import Gateway
from runtime_server.runtimes.gauges import Gauges
from runtime_server.runtimes.holders import LEASE, Holder
from runtime_server.runtimes.housekeeping import Housekeeping
from runtime_server.runtimes.idle import IdleWatch
from runtime_server.runtimes.images import Images
from runtime_server.runtimes.inside import Inside
from runtime_server.runtimes.kept import KeptChanges
from runtime_server.runtimes.launch import Launch
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.manager import RuntimeManager
from runtime_server.runtimes.news import News
from runtime_server.runtimes.nginx_cache import NginxCache
from runtime_server.runtimes.outputs import Outputs
from runtime_server.runtimes.policy import Policy
from runtime_server.runtimes.pulls import Pulls
from runtime_server.runtimes.queue import StartQueue
from runtime_server.runtimes.quotas import Quotas, Rates
from runtime_server.runtimes.ready import ReadyWatch
from runtime_server.runtimes.reconciler import Reconciler
from runtime_server.runtimes.renewals import Renewals
from runtime_server.runtimes.restarts import Restarts
from runtime_server.runtimes.scrape import Scrape
from runtime_server.runtimes.starts import Starts
from runtime_server.runtimes.stops import Stops
from runtime_server.runtimes.switches import Switches
from runtime_server.runtimes.sync import Liveness, Sync
from runtime_server.runtimes.terminals import Terminals
from runtime_server.runtimes.terms import Terms
from runtime_server.runtimes.urls import Urls
from runtime_server.runtimes.usage import Usage
from runtime_server.runtimes.views import Views
from runtime_server.runtimes.volumes import Volumes
from runtime_server.runtimes.waits import SlowLane
from runtime_server.runtimes.workspaces import Workspaces
from runtime_server.settings import Settings
from runtime_server.state import State, locate
from runtime_server.store.builds import BuildQueue
from runtime_server.store.database import Database
from runtime_server.store.store import Store
from runtime_server.web.auth import KeyRing
from runtime_server.web.listeners import BySocket
from runtime_server.web.operation import Services
from runtime_server.web.streaming import Streams

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Service:
    """A worker's whole service. Connects to nothing until it is used.

    Args:
        settings: the operator's.
        state: the state directory, whose database is migrated before the first request.
        engine: another than Docker's.
        builder: another than the ``docker`` command.
        shared: count together with the other processes of the state directory. For a process that serves nothing
            else: it is all of the process that is told to.

    Attributes:
        ending: whether this worker is about to end, so that streams end too; whoever runs it may know it earlier.
    """

    def __init__(
        self,
        settings: Settings,
        state: State,
        engine: Engine | None = None,
        builder: Builder | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self.settings = settings
        self.state = state
        self.engine: Engine = engine or DockerEngine(
            state.instance,
            address=settings.engine,
            timeout=settings.engine_timeout,
            pool_size=settings.request_threads + settings.threads * 2,
        )
        self.metrics, self._shared = joined(state.directory) if shared else (Metrics(), None)
        if isinstance(self.engine, DockerEngine):
            self.engine.observe = self.metrics.engine_call
        self.liveness = Liveness(state.beat)
        self.store = Store(Database(state.database), settings.starting_places)
        self.holder = Holder(state.holders)
        self.lane = SlowLane(settings.slow_lane, changed=self.metrics.lane.inc)
        self.metrics.lane_places.set(settings.slow_lane)
        self.addresses = RuntimeAddresses(state.network)
        self.builds = self._make_builds(
            builder or DockerBuilder(settings.engine, self.engine.version, settings.docker_cli)
        )
        self._build_parts()
        calls = Calls(
            self.store.operations,
            self.holder,
            self.lane,
            ttl=settings.idempotency_ttl,
            wait=settings.idempotency_wait,
        )
        keys = KeyRing.from_settings(settings, state.key_file)
        self.rates = Rates(settings, state.rates)
        streams = Streams(
            SlowLane(settings.streams, TooManyStreams),
            heartbeat=settings.heartbeat,
            longest=settings.max_stream,
            ending=lambda: self.ending(),  # noqa: PLW0108 - it may be exchanged later
        )
        scrape = self._scrape(self._shared)
        services = Services(settings, self.manager, calls, self.workspaces, self.builds, self.inside, streams, scrape)
        forwarded = Forwarded(settings.trusted_proxies, socket=bool(settings.bind))
        self.app = create_api(services, keys, rates=self.rates, sources=SourceCheck(self.addresses, forwarded))
        self.wsgi: WSGIApplication = self.app
        if self.gateway is not None:
            self.wsgi = BySocket(self.app, settings.gateway_socket, create_gateway(settings, self.gateway))
        self._closing = threading.Event()
        self.ending: Callable[[], bool] = self._closing.is_set
        self._keeper: threading.Thread | None = None

    def _make_builds(self, builder: Builder) -> Builds:
        settings, operations = self.settings, self.store.operations
        queue = BuildQueue(
            self.store.database, operations, places=settings.max_builds, waiting=settings.max_queued_builds
        )
        runs = Runs(
            settings=settings,
            instance=self.state.instance,
            engine=self.engine,
            builder=builder,
            queue=queue,
            operations=operations,
            holder=self.holder,
            folder=self.state.builds,
        )
        return Builds(
            settings=settings,
            instance=self.state.instance,
            folder=self.state.builds,
            engine=self.engine,
            builder=builder,
            queue=queue,
            runs=runs,
            lane=self.lane,
            draining=self.state.draining,
        )

    def _build_parts(self) -> None:
        settings, state, engine, store = self.settings, self.state, self.engine, self.store
        socket = socket_path(settings.engine) if isinstance(engine, DockerEngine) else None
        network = RuntimeNetwork(
            engine,
            settings.network,
            self.addresses,
            others=settings.allowed_networks,
            firewall=self._firewall(local=socket is not None),
            services=settings.host_services,
            egress=settings.egress,
            ipv6=settings.ipv6,
        )
        quotas = Quotas(settings)
        urls = Urls(settings)
        terms = Terms(settings)
        threads = settings.threads * 2
        # Some threads are left to those that are given a place while the others pull and wait for one.
        lenders = threads - min(settings.starting_places, settings.threads)
        queue = StartQueue(store, self.holder, lenders=lenders)
        pulls = Pulls(engine, store.operations, self.holder, self.metrics)
        cache = NginxCache(state.lookups, settings.gateway_lookups) if settings.routed else None
        policy, watch = Policy(settings, forbidden=(socket,) if socket else ()), ReadyWatch(engine, store, cache)
        launch = Launch(
            instance=state.instance,
            engine=engine,
            store=store,
            fetch=ImageFetch(store, pulls),
            policy=policy,
            queue=queue,
            watch=watch,
            reservations=PortReservations(settings.publish_host),
            urls=urls,
            network=network,
            metrics=self.metrics,
        )
        self.starts = Starts(
            instance=state.instance,
            store=store,
            launch=launch,
            holder=self.holder,
            lane=self.lane,
            queue=queue,
            quotas=quotas,
            terms=terms,
            threads=threads,
            draining=state.draining,
            metrics=self.metrics,
        )
        self.stops = Stops(engine=engine, store=store, holder=self.holder, lane=self.lane, cache=cache)
        renewals, kept = Renewals(state.renewals), KeptChanges(state.changes)
        sync = Sync(engine, store, state.locks, cache)
        lookup = Lookup(store, sync, self.liveness, state.rebuilding)
        views = Views(store, urls)
        switches = Switches(
            engine=engine,
            store=store,
            sync=sync,
            locks=state.locks,
            holder=self.holder,
            quotas=quotas,
            terms=terms,
            cache=cache,
        )
        self.gateway = (
            None
            if cache is None
            else Gateway(
                store=store,
                sync=sync,
                liveness=self.liveness,
                lane=self.lane,
                switches=switches,
                cache=cache,
                terms=terms,
                rebuilding=state.rebuilding,
            )
        )
        self.manager = RuntimeManager(
            engine=engine,
            store=store,
            starts=self.starts,
            stops=self.stops,
            sync=sync,
            liveness=self.liveness,
            lane=self.lane,
            switches=switches,
            renewals=renewals,
            lookup=lookup,
            views=views,
            max_wait=settings.max_wait,
        )
        self.workspaces = Workspaces(
            instance=state.instance,
            engine=engine,
            store=store,
            lane=self.lane,
            rebuilding=state.rebuilding,
            retention=settings.workspace_retention,
        )
        restarts = Restarts(
            engine=engine,
            store=store,
            holder=self.holder,
            launch=launch,
            watch=watch,
            starts=self.starts,
            lookup=lookup,
            quotas=quotas,
            views=views,
            max_wait=settings.max_wait,
            ttl=settings.idempotency_ttl,
            cache=cache,
        )
        changes = Changes(
            engine=engine,
            store=store,
            lookup=lookup,
            sync=sync,
            locks=state.locks,
            policy=policy,
            quotas=quotas,
            renewals=renewals,
            kept=kept,
            views=views,
        )
        self.inside = self._inside(lookup, sync, pulls, restarts, changes)
        self._chores = Chores(
            engine=engine,
            store=store,
            starts=self.starts,
            stops=self.stops,
            holder=self.holder,
            locks=state.locks,
            restarts=restarts,
            renewals=renewals,
            kept=kept,
            retention=settings.retention,
            workspaces=self.workspaces,
            cache=cache,
            metrics=self.metrics,
        )
        self.idle = None
        if cache is not None:
            self.idle = IdleWatch(
                engine=engine,
                store=store,
                switches=switches,
                stops=self.stops,
                cache=cache,
                terms=terms,
                submit=self._chores.submit,
                everyone=settings.idle_timeout > 0,
            )
        self.reconciler = Reconciler(
            engine=engine,
            store=store,
            sync=sync,
            chores=self._chores,
            liveness=self.liveness,
            lock=state.leader,
            rebuilding=state.rebuilding,
            sweep_interval=settings.sweep_interval,
            network=network,
            also=self._tick,
            metrics=self.metrics,
        )

    def _tick(self) -> None:
        """What the reconciler's process does besides."""
        self.builds.tick()
        if self.idle is not None:
            self.idle.tick()

    def _inside(self, lookup: Lookup, sync: Sync, pulls: Pulls, restarts: Restarts, changes: Changes) -> Inside:
        execs = Execs(
            settings=self.settings,
            engine=self.engine,
            operations=self.store.operations,
            holder=self.holder,
            lane=self.lane,
            lookup=lookup,
            sync=sync,
        )
        return Inside(
            outputs=Outputs(self.engine, self.store, lookup),
            execs=execs,
            files=Files(self.settings, self.engine, lookup),
            usage=Usage(self.engine, self.store, lookup, sync),
            news=News(self.store, lookup),
            restarts=restarts,
            changes=changes,
            images=Images(self.settings, self.engine, pulls, Names(self.settings)),
            volumes=Volumes(self.engine, self.store, self.lane),
            housekeeping=Housekeeping(
                engine=self.engine,
                store=self.store,
                stops=self.stops,
                workspaces=self.workspaces,
                lane=self.lane,
                retention=self.settings.workspace_retention,
            ),
            terminals=Terminals(settings=self.settings, execs=execs, operations=self.store.operations, lookup=lookup),
        )

    def _scrape(self, shared: Shared | None) -> Scrape:
        gauges = Gauges(self.store.database, self.liveness, self.state.draining, self.store.slots.places)
        return Scrape(self.settings, self.metrics, shared, gauges)

    def _firewall(self, *, local: bool) -> Firewall | None:
        """What sets firewall rules; None where an administrator does, or there are no packets."""
        if self.settings.firewall == "off" or not isinstance(self.engine, DockerEngine):
            return None
        return Firewall(self.state.firewall, local=local)

    def start_background(self) -> None:
        """Start the reconciler and the renewal of leases: in each worker, after fork."""
        self.reconciler.start()
        self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        while not self._closing.wait(LEASE / 6):
            with suppress(StorageUnavailable):
                self.holder.renew(self.store.operations)

    def close(self) -> None:
        """End background work, letting go of what isn't finished, and give everything back."""
        self._closing.set()
        self.reconciler.close()
        self.starts.close()
        self.builds.close()
        self._chores.close()
        if self._keeper is not None:
            self._keeper.join(10)
        self.holder.close()
        self.rates.close()
        self.store.database.close()
        self.engine.close()
        if self._shared is not None:
            self._shared.leave()


def build(
    settings: Settings, *, engine: Engine | None = None, builder: Builder | None = None, shared: bool = False
) -> Service:
    """A service for these settings; the database must have been prepared by ``state.prepare``."""
    return Service(settings, locate(settings), engine, builder, shared=shared)
