%% What a real Erlang supervisor does: runs the scenarios of scenarios.txt one after another and
%% writes to states.txt how its children stand after each event. Started by record.py.
-module(record).
-behaviour(supervisor).
-export([init/1, main/0, start/1, child/1]).

init({Flags, Specs}) -> {ok, {Flags, Specs}}.

start(Id) ->
    case ets:lookup(fails, Id) of
        [{Id, [fail|Rest]}] -> ets:insert(fails, {Id, Rest}), {error, no};
        [{Id, [ignore|Rest]}] -> ets:insert(fails, {Id, Rest}), ignore;
        _ ->
            Pid = spawn_link(?MODULE, child, [Id]),
            ets:update_counter(starts, Id, 1, {Id, 0}),
            {ok, Pid}
    end.

child(Id) -> process_flag(trap_exit, false), receive {stop, R} -> exit(R) end, Id.

spec({Id, Restart, Sig}) ->
    #{id => Id, start => {?MODULE, start, [Id]}, restart => Restart, significant => Sig, shutdown => 1000}.

main() ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    ets:new(fails, [named_table, public]), ets:new(starts, [named_table, public]),
    {ok, Scenarios} = file:consult("scenarios.txt"),
    {ok, Out} = file:open("states.txt", [write]),
    lists:foreach(fun(S) -> run(S, Out) end, Scenarios),
    file:close(Out), halt().

run({Strategy, Auto, Intensity, Children, Events}, Out) ->
    ets:delete_all_objects(fails), ets:delete_all_objects(starts),
    Flags = #{strategy => Strategy, intensity => Intensity, period => 3600, auto_shutdown => Auto},
    {ok, Sup} = supervisor:start_link(?MODULE, {Flags, [spec(C) || C <- Children]}),
    Lines = steps(Events, Sup, []),
    io:format(Out, "~s~n", [string:join(lists:reverse(Lines), "|")]),
    case is_process_alive(Sup) of
        true -> unlink(Sup), M = monitor(process, Sup), exit(Sup, shutdown), receive {'DOWN', M, _, _, _} -> ok end;
        false -> ok end.

steps([], _, Acc) -> Acc;
steps([E|Es], Sup, Acc) ->
    R = (catch do(E, Sup)),
    settle(Sup),
    case is_process_alive(Sup) of
        false -> ["dead"|Acc];
        true -> steps(Es, Sup, [show(Sup, R)|Acc])
    end.

settle(Sup) -> settle(Sup, none, 0).
settle(_, _, 60) -> ok;
settle(Sup, Last, N) ->
    case is_process_alive(Sup) of
        false -> ok;
        true ->
            erlang:yield(),
            Now = (catch {supervisor:which_children(Sup), ets:tab2list(starts), ets:tab2list(fails)}),
            case Now =:= Last of true when N > 4 -> ok; _ -> timer:sleep(1), settle(Sup, Now, N+1) end
    end.

pid(Sup, Id) ->
    case lists:keyfind(Id, 1, supervisor:which_children(Sup)) of {Id, P, _, _} when is_pid(P) -> P; _ -> none end.

do({'end', Id, Reason}, Sup) ->
    case pid(Sup, Id) of none -> none; P when Reason =:= kill -> exit(P, kill), none; P -> P ! {stop, Reason}, none end;
do({fails, Id, L}, _) -> ets:insert(fails, {Id, L}), none;
do({start, C}, Sup) -> tag(supervisor:start_child(Sup, spec(C)));
do({terminate, Id}, Sup) -> tag(supervisor:terminate_child(Sup, Id));
do({restart, Id}, Sup) -> tag(supervisor:restart_child(Sup, Id));
do({delete, Id}, Sup) -> tag(supervisor:delete_child(Sup, Id)).

tag(ok) -> ok;
tag({ok, undefined}) -> ignored;
tag({ok, _}) -> up;
tag({error, {already_started, _}}) -> already_started;
tag({error, already_present}) -> already_present;
tag({error, not_found}) -> not_found;
tag({error, running}) -> running;
tag({error, restarting}) -> restarting;
tag({error, {start_spec, _}}) -> spec_error;
tag({error, _}) -> failed.

show(Sup, R) ->
    L = lists:reverse(supervisor:which_children(Sup)),
    Kids = [io_lib:format("~p:~p:~p", [Id, case P of undefined -> down; restarting -> restarting; _ -> up end,
              case ets:lookup(starts, Id) of [{_, N}] -> N; [] -> 0 end]) || {Id, P, _, _} <- L],
    lists:flatten(io_lib:format("~p ~s", [R, string:join([lists:flatten(K) || K <- Kids], ",")])).
