%% The callback module of every supervisor of a scenario: what it was handed is its answer.
-module(conf_sup).
-behaviour(supervisor).
-export([start_link/3, init/1, spec/2]).

start_link(Stage, Name, Definition) ->
    supervisor:start_link(?MODULE, {Stage, Name, Definition}).

init({Stage, Name, Definition}) ->
    case conf_stage:call(Stage, {start, Name}) of
        ok ->
            ok = conf_stage:call(Stage, {up, Name, supervisor}),
            {ok, plan(Stage, Definition)};
        ignore ->
            ignore;
        _ ->
            exit(planned)
    end.

plan(Stage, {static, Strategy, Intensity, Period, Auto, Specs}) ->
    {#{strategy => Strategy, intensity => Intensity, period => Period, auto_shutdown => Auto},
     [spec(Stage, Spec) || Spec <- Specs]};
plan(Stage, {dynamic, Intensity, Period, {Id, Restart, Shutdown, false, Manner}}) ->
    {#{strategy => simple_one_for_one, intensity => Intensity, period => Period},
     [#{id => Id, start => {conf_child, start_link, [Stage, dynamic, Manner]},
        restart => Restart, shutdown => Shutdown}]}.

%% The last field is the manner of a worker's stop, or the definition of a supervisor.
spec(Stage, {Id, Restart, Shutdown, Significant, Definition}) when is_tuple(Definition) ->
    #{id => Id, start => {?MODULE, start_link, [Stage, Id, Definition]}, restart => Restart,
      shutdown => Shutdown, significant => Significant, type => supervisor};
spec(Stage, {Id, Restart, Shutdown, Significant, Manner}) ->
    #{id => Id, start => {conf_child, start_link, [Stage, Id, Manner]}, restart => Restart,
      shutdown => Shutdown, significant => Significant}.
