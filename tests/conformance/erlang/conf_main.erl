%% The Erlang side of the conformance run: reads one scenario a line, plays each in a process of
%% its own on the real supervisor, writes one line an observation. How a scenario is played
%% stands in conf_player.erl.
-module(conf_main).
-export([main/0]).

main() ->
    %% Crashes are what this program is for; nobody wants to read of each.
    ok = logger:set_primary_config(level, none),
    ok = io:setopts(standard_io, [{encoding, latin1}]),
    Writer = spawn_link(fun write/0),
    read(Writer).

read(Writer) ->
    case io:get_line(standard_io, "") of
        eof -> halt(0);
        {error, _} -> halt(1);
        Line ->
            {ok, Tokens, _} = erl_scan:string(Line),
            {ok, {Id, Root, Steps}} = erl_parse:parse_term(Tokens),
            spawn(fun() -> Writer ! {lines, played(Id, Root, Steps)} end),
            read(Writer)
    end.

%% A scenario that this program cannot play is said so, in one line.
played(Id, Root, Steps) ->
    try conf_player:play(Id, Root, Steps)
    catch Class:Reason:Stack ->
        io_lib:format("~b\tcannot play: ~0p~n", [Id, {Class, Reason, Stack}])
    end.

%% One process writes, so that the lines of one scenario stand together.
write() ->
    receive
        {lines, Lines} ->
            ok = io:put_chars(standard_io, Lines),
            write()
    end.
