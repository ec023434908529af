# relocate.pl OUT SHELL DEPENDENCIES…: in OUT, turns paths in /usr that lead to OUT or to a
# dependency into those, in scripts' first lines, units and rules, and in symbolic links.
use strict;
use warnings;
use File::Find;

my ($out, $shell, @dependencies) = @ARGV;
my @places = grep { $_ ne '' } ($out, $shell, @dependencies);

sub moved {
    my ($path) = @_;
    (my $inside = $path) =~ s{^/usr/}{/} or $path =~ m{^/(s?bin|lib)/} or return $path;
    for my $place (@places) {
        return "$place$inside" if -e "$place$inside" || -l "$place$inside";
    }
    return $path;
}

find(
    {
        no_chdir => 1,
        wanted   => sub {
            my $file = $_;
            if (-l $file) {
                my $target = readlink $file;
                if ($target =~ m{^/} && (my $moved = moved($target)) ne $target) {
                    unlink $file;
                    symlink $moved, $file or die "$file: $!";
                }
                return;
            }
            return unless -f $file;
            my $is_configuration = $file =~ m{/(lib/systemd|lib/udev/rules\.d|share/dbus-1|lib/tmpfiles\.d)/};
            open my $handle, '<:raw', $file or die "$file: $!";
            local $/;
            my $text = <$handle>;
            close $handle;
            my $is_script = $text =~ /^#!/;
            return if $text =~ /\0/ || !($is_script || $is_configuration);
            my $new = $text;
            my $pattern = qr{(?<![\w./-])(/usr/(?:s?bin|lib|libexec|share)/[\w./@+-]+|/s?bin/[\w.-]+)};
            if ($is_script) {
                $new =~ s{^(#! *)(/\S+)}{$1 . moved($2)}e;
            }
            if ($is_configuration) {
                $new =~ s{$pattern}{moved($1)}ge;
            }
            return if $new eq $text;
            open $handle, '>:raw', $file or die "$file: $!";
            print $handle $new;
            close $handle or die "$file: $!";
        },
    },
    $out
);
